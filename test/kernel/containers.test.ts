import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import type { Check } from '../../src/cli/doctor/check.ts';
import { removeCgroup } from '../support/cgroup-box.ts';
import { beside, needs } from '../support/needs.ts';
import { endChild, eventually } from '../support/scene.ts';

const test = beside(needs('root', 'btf', 'addon', 'cgroupV1Cpu'));
const main = new URL('../../src/cli/main.ts', import.meta.url).pathname;
const name = 'all of the machine';

/** What doctor says of it in a process that is started so; it ends with 1 where the main job cannot run. */
async function seenBy(...start: string[]): Promise<Check | undefined> {
  const [file = '', ...args] = [...start, process.execPath, main, 'doctor', '--json'];
  const { stdout } = await execa(file, args, { reject: false });
  const { checks } = JSON.parse(stdout) as { checks: Check[] };
  return checks.find(check => check.name === name);
}

/** As a container is: in a cgroup of its own, whose tree alone is mounted there. Namespaces and mounts end with the process. */
function containerOf(t: ExecutionContext): string[] {
  const cgroup = `/sys/fs/cgroup/cpu/sculptor-container-${process.pid}`;
  mkdirSync(cgroup);
  t.teardown(() => removeCgroup(cgroup));
  const enter = `echo $$ >${cgroup}/cgroup.procs && exec unshare --cgroup --mount --pid --kill-child --mount-proc "$@"`;
  const mount =
    'umount /sys/fs/cgroup/cpu && mount -t cgroup -o cpu cgroup /sys/fs/cgroup/cpu && exec "$@"';
  return ['sh', '-c', enter, 'sh', 'sh', '-c', mount, 'sh'];
}

test('the machine itself shows all, and namespaces of its own do not', async t => {
  t.timeout(120_000);
  const [machine, seen] = await Promise.all([
    seenBy('env'),
    seenBy('unshare', '--cgroup', '--pid', '--fork', '--mount-proc'),
  ]);
  t.is(machine?.state, 'works');
  t.is(seen?.state, 'missing');
  t.is(seen?.found, 'a cgroup namespace of its own, a pid namespace of its own');
  t.regex(seen?.how ?? '', /--pid=host --cgroupns=host/);
});

test('in a container doctor says what is hidden, and the agent warns once', async t => {
  t.timeout(120_000);
  const container = containerOf(t);
  const seen = await seenBy(...container);
  t.regex(seen?.found ?? '', /^of the tree of cgroups a part is mounted, a cgroup .*, a pid/);
  t.regex(seen?.lost ?? '', /instance_unnamed/);
  t.true(existsSync('/sys/fs/cgroup/cpu/tasks'), 'the mount of the machine is as it was');

  const run = mkdtempSync(`${tmpdir()}/sculptor-container-`);
  t.teardown(() => rmSync(run, { recursive: true }));
  const agent = { endpoint: `unix://${run}/otlp.sock`, apiSocket: `${run}/api.sock` };
  writeFileSync(`${run}/sculpt.yaml`, JSON.stringify({ agent }));
  const [file = '', ...args] = [...container, process.execPath, main, 'agent', '--config'];
  let said = '';
  const child = spawn(file, [...args, `${run}/sculpt.yaml`], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  child.stderr?.on('data', chunk => {
    said += String(chunk);
  });
  try {
    await eventually('its first reading', 30, () => /reading every/.exec(said));
    const warnings = said.split('\n').filter(line => line.includes('it runs in a container'));
    t.is(warnings.length, 1, said);
    t.regex(warnings[0] ?? '', /instance_unnamed.*--pid=host --cgroupns=host/);
  } finally {
    await endChild(child);
  }
});
