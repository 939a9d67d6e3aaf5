import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { demoPolicy } from '../../src/cli/demo/demo.ts';
import { openStage } from '../../src/cli/demo/stage.ts';
import { differences, readKernelState } from '../../src/cli/demo/state.ts';
import { stageTenants } from '../../src/cli/demo/tenants.ts';
import { watchSettings } from '../../src/cli/demo/watch.ts';
import type { Mode } from '../../src/contract/policy.ts';
import { needs } from '../support/needs.ts';
import { eventually } from '../support/scene.ts';

const test = needs('root', 'btf', 'addon', 'cgroupV1Cpu', 'twoCpus');

/** As it is installed: from sources it would be compiled at each start, beside nine instances that want both CPUs. */
const sculpt = new URL('../../bin/sculpt', import.meta.url).pathname;

/** Until it is up, and until it acts: by itself a few seconds each, and more where others have the CPUs. */
const startSeconds = 45;

test('what kill -9 of `sculpt up` leaves behind in the middle of an action is undone, by `sculpt restore` and by the next start; SIGTERM gives everything back before it ends', async t => {
  const scene = await stageContention(t);
  const first = await scene.up('enforce');
  await scene.acted(t);
  await end(first, 'SIGKILL');
  t.not(scene.watch.changed().length, 0, 'the action is still in force: nobody undid it');
  const restore = await scene.alone(() =>
    spawnSync(sculpt, ['restore', '--config', scene.config], { encoding: 'utf8' }),
  );
  t.is(restore.status, 0, restore.stderr);
  t.regex(restore.stdout, /1 open actions: \d+ values restored/);
  t.deepEqual(scene.differences(), []);

  const second = await scene.up('enforce');
  await scene.acted(t);
  await end(second, 'SIGKILL');
  t.not(scene.watch.changed().length, 0);
  const third = await scene.up('enforce');
  t.true(await scene.watch.untilRestored(startSeconds), scene.log());
  t.deepEqual(scene.differences(), []);
  await scene.acted(t);
  t.is(await end(third, 'SIGTERM'), 0, scene.log());
  t.deepEqual(scene.differences(), []);
});

/** A critical instance beside eight of batch, and `sculpt up` as a process of its own. */
async function stageContention(t: ExecutionContext) {
  t.timeout(200_000);
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-up-'));
  const prefix = `sculptor-up-${process.pid}`;
  const stage = openStage(prefix);
  const children: ChildProcess[] = [];
  t.teardown(async () => {
    for (const child of children) await end(child, 'SIGKILL');
    await stage.clear();
    rmSync(folder, { recursive: true });
  });
  stageTenants(stage, join(folder, 'lateness.tsv')).addBatch(8);
  await stage.ready();
  const before = readKernelState(stage.instances);
  const watch = watchSettings(stage.instances);
  const config = join(folder, 'sculpt.yaml');
  const log = () => readFileSync(join(folder, 'log'), 'utf8');
  const staged = stage.instances.flatMap(({ processes }) => processes);
  /** What starts has the CPUs for itself: beside nine that want two it takes many times as long, and nothing is learned from it. */
  const alone = async <T>(start: () => T | Promise<T>): Promise<T> => {
    for (const child of staged) child.kill('SIGSTOP');
    try {
      return await start();
    } finally {
      for (const child of staged) child.kill('SIGCONT');
    }
  };
  const start = async (mode: Mode): Promise<ChildProcess> => {
    writeFileSync(
      config,
      JSON.stringify({
        pipeline: { mode },
        sculptor: { journal: join(folder, 'journal.db'), policy: demoPolicy(prefix) },
      }),
    );
    const out = openSync(join(folder, 'log'), 'a');
    const before = log().length;
    const child = spawn(sculpt, ['up', '--config', config, '--run-dir', folder], {
      stdio: ['ignore', out, out],
    });
    children.push(child);
    await eventually('it is up', startSeconds, () => /up: mode/.exec(log().slice(before)));
    return child;
  };
  return {
    config,
    watch,
    log,
    differences: () => differences(before, readKernelState(stage.instances)),
    acted: async (on: ExecutionContext) => {
      on.not(await watch.firstChange(startSeconds), null, `nothing was applied: ${log()}`);
    },
    alone,
    up: (mode: Mode) => alone(() => start(mode)),
  };
}

/** The exit code; null when a signal ended it. */
async function end(child: ChildProcess, signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) {
    const ended = new Promise(resolve => child.once('exit', resolve));
    child.kill(signal);
    await ended;
  }
  return child.exitCode;
}
