import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { keepRunning } from '../../../src/agent/bpftrace/lasting-run.ts';
import { runBpftrace } from '../../../src/agent/bpftrace/run.ts';
import { until } from '../../support/sockets.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

const garbage = 'not of bpftrace';
const lines = {
  attaching: '{"type": "attached_probes", "data": {"probes": 1}}',
  beat: '{"type": "printf", "data": ""}',
  garbage,
};

/** Runs a bpftrace that says each line when it is told to, and nothing else. */
function scene(t: ExecutionContext) {
  const folder = mkdtempSync(join(tmpdir(), 'sculptor-bpftrace-'));
  execFileSync('mkfifo', [`${folder}/lines`]);
  // It forks nothing, as the real one: a child would keep its standard output open when it is killed.
  writeFileSync(
    `${folder}/bpftrace`,
    `#!/bin/bash\nwhile IFS= read -r line; do printf '%s\\n' "$line"; done <>'${folder}/lines'\n`,
  );
  chmodSync(`${folder}/bpftrace`, 0o755);
  process.env['PATH'] = `${folder}:${process.env['PATH']}`;
  const told = openSync(`${folder}/lines`, 'r+');
  const clock = steppedClock();
  const ends: (string | null)[] = [];
  const run = keepRunning({
    run: runBpftrace,
    program: () => '',
    file: 'a.bt',
    maxBytesPerSecond: 1 << 20,
    maxKeys: 16,
    roots: { proc: '/', sys: '/', cgroup: '/' },
    clock,
    record: () => undefined,
    attached: () => undefined,
    ended: news => ends.push(news),
  });
  t.teardown(async () => {
    await run.stop();
    closeSync(told);
    rmSync(folder, { recursive: true });
  });
  const say = (line: keyof typeof lines) => writeSync(told, `${lines[line]}\n`);
  return { clock, ends, run, say };
}

test.serial(
  'a bpftrace that hangs before it is attached is ended after a minute, and begun again after pauses that double',
  async t => {
    const { clock, ends, run } = scene(t);
    for (const [restarts, pauseSeconds] of [1, 2, 4].entries()) {
      clock.step(60);
      await until(() => ends.length === restarts + 1);
      t.regex(run.trouble() ?? '', /^it printed nothing for 60 s, and is not attached/);
      clock.step(pauseSeconds - 0.5);
      t.is(run.restarts(), restarts);
      clock.step(0.5);
      t.is(run.restarts(), restarts + 1);
    }
    t.deepEqual(ends.slice(1), [null, null], 'the reason is no news');
  },
);

test.serial(
  'one that compiles for nearly a minute, and attaches for another, runs; from then on 10 s of silence end it',
  async t => {
    const { clock, ends, run, say } = scene(t);
    clock.step(59);
    say('attaching');
    // What is counted tells that the line before it was read.
    say('garbage');
    await until(() => run.losses().malformed_lines === 1);
    clock.step(59);
    say('beat');
    await until(() => run.trouble() === null);
    clock.step(9);
    say('garbage');
    await until(() => run.losses().malformed_lines === 2);
    t.deepEqual(ends, []);
    clock.step(10);
    await until(() => ends.length === 1);
    t.is(ends[0], 'it printed nothing for 10 s');
  },
);
