import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { loadNative } from '../../src/linux/native.ts';
import type { Roots } from '../../src/linux/roots.ts';
import { lockHost } from '../../src/sculptor/host-lock.ts';
import { needs } from '../support/needs.ts';
import { kill, nextLine } from './support/cgroup-lab.ts';

const test = needs('addon');
const rootTest = needs('addon', 'root');

/** A host of its own: its cgroups are a folder, its processes and their locks the machine's. */
function hostOf(t: ExecutionContext): Roots {
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-host-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  chmodSync(folder, 0o755);
  const [cgroup, proc] = [join(folder, 'cgroup'), join(folder, 'proc')];
  mkdirSync(cgroup);
  mkdirSync(join(proc, 'self'), { recursive: true });
  writeFileSync(
    join(proc, 'self/mountinfo'),
    '24 1 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n',
  );
  symlinkSync('/proc/locks', join(proc, 'locks'));
  symlinkSync(`/proc/${process.pid}`, join(proc, String(process.pid)));
  return { proc, sys: folder, cgroup };
}

/** As some user, another process that holds the cgroups of a host. */
async function startHolder(
  t: ExecutionContext,
  roots: Roots,
  uid: number,
): Promise<ChildProcess & { pid: number }> {
  const child = spawn('flock', [roots.cgroup, 'sh', '-c', 'echo held; exec sleep 600'], {
    uid,
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  }) as ChildProcess & { pid: number };
  t.teardown(async () => {
    process.kill(-child.pid, 'SIGKILL');
    await kill(child);
  });
  await nextLine(child);
  symlinkSync(`/proc/${child.pid}`, join(roots.proc, String(child.pid)));
  return child;
}

test('one at a time acts on a host; on another, with cgroups of its own, another may', t => {
  const [host, other] = [hostOf(t), hostOf(t)];
  const said: string[] = [];
  const lock = (roots: Roots) => lockHost(loadNative(), roots, (_, text) => void said.push(text));
  const release = lock(host);
  t.throws(() => lock(host), {
    code: 'KERNEL_BUSY',
    message: new RegExp(`^process ${process.pid} .*acts on this host`),
  });
  lock(other)();
  release();
  lock(host)();
  t.deepEqual(said, []);
});

rootTest(
  'a user who holds the cgroups, as who may read them can, keeps nobody from acting',
  async t => {
    const host = hostOf(t);
    const holder = await startHolder(t, host, 64_900);
    const said: string[] = [];
    lockHost(loadNative(), host, (_, text) => void said.push(text))();
    t.regex(said.join(), new RegExp(`^process ${holder.pid} holds .*no sculptor`));
  },
);

rootTest('another of root’s does', async t => {
  const host = hostOf(t);
  const holder = await startHolder(t, host, 0);
  t.throws(() => lockHost(loadNative(), host, () => undefined), {
    code: 'KERNEL_BUSY',
    message: new RegExp(`^process ${holder.pid} `),
  });
});
