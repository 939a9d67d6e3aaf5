import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { needs } from '../support/needs.ts';

const test = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'cgroupV1Cpuset', 'twoCpus');

/** As it is installed: from sources it would be compiled at each start, beside what it has staged. */
const sculpt = new URL('../../bin/sculpt', import.meta.url).pathname;

test('a demo that is interrupted with contention staged leaves no cgroup and no process behind', async t => {
  t.timeout(60_000);
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-demo-test-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const demo = spawn(sculpt, ['demo', '--report', join(folder, 'r.html')], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, TMPDIR: folder },
  });
  const ended = new Promise<number | null>(resolve => demo.once('exit', resolve));
  const lines: string[] = [];
  let staged: string[] = [];
  let processes: string[] = [];
  for await (const line of createInterface({ input: demo.stderr })) {
    lines.push(line);
    if (!line.includes('tenants: contended')) continue;
    staged = cgroupsOf(demo.pid);
    processes = processesIn(staged);
    demo.kill('SIGINT');
  }
  t.is(await ended, 1, lines.join('\n'));
  t.is(staged.length, 9, lines.join('\n'));
  t.regex(lines.at(-1) ?? '', /^sculpt: DEMO_FAILED: stopped by SIGINT; everything is put back$/);
  t.deepEqual(cgroupsOf(demo.pid), []);
  t.is(processes.length, 9);
  t.deepEqual(
    processes.filter(pid => existsSync(`/proc/${pid}`)),
    [],
  );
});

function cgroupsOf(pid: number | undefined): string[] {
  return ['cpu', 'cpuset'].flatMap(controller =>
    readdirSync(`/sys/fs/cgroup/${controller}`).filter(name =>
      name.startsWith(`sculptor-demo-${pid}-`),
    ),
  );
}

function processesIn(cgroups: readonly string[]): string[] {
  return cgroups.flatMap(name =>
    readFileSync(`/sys/fs/cgroup/cpu/${name}/cgroup.procs`, 'utf8')
      .split('\n')
      .filter(pid => pid !== ''),
  );
}
