import { mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import test, { type ExecutionContext } from 'ava';
import type { RunOptions } from '../../../src/agent/bpftrace/run.ts';
import { startCustomSource } from '../../../src/agent/custom/custom-source.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { customProbesSchema } from '../../../src/contract/custom-probes-config.ts';
import { steppedClock } from '../../support/stepped-clock.ts';
import { lossesOf } from '../support/staged-script.ts';

/** A folder of scripts, and a bpftrace that a test moves. */
function scene(t: ExecutionContext, limits: object = {}) {
  const folder = mkdtempSync(`${tmpdir()}/sculptor-custom-`);
  const clock = steppedClock(1000);
  const runs: (RunOptions & { stopped: boolean })[] = [];
  const settings = { printIntervalSeconds: 5 };
  const said: string[] = [];
  const source = startCustomSource({
    config: { ...customProbesSchema.parse(limits), directory: folder },
    printIntervalSeconds: () => settings.printIntervalSeconds,
    run: options => {
      const run = { ...options, stopped: false };
      runs.push(run);
      return {
        losses: () => lossesOf({ text_lines: 1 }),
        stop: async () => {
          run.stopped = true;
        },
      };
    },
    roots: { proc: '/', sys: '/', cgroup: '/' },
    clock,
    say: (_level, message) => said.push(message),
  });
  t.teardown(async () => {
    await source.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  let changes = 0;
  const write = (file: string, body: string, header = `name: my.${file}`): void => {
    const text = `// sculptor: ${header}, unit: "1", type: counter\n${body}`;
    writeFileSync(`${folder}/${file}.bt`, text);
    // Two writes within the clock of the file system's stamps are two.
    changes += 1;
    utimesSync(`${folder}/${file}.bt`, 1, changes);
  };
  const value = (name: string) =>
    source.host().find(({ metric }) => typeof metric !== 'string' && metric.name === name);
  return { folder, clock, runs, settings, said, source, write, value };
}

test('a script runs from the second look that found it the same; changed, it begins anew; removed, it ends', async t => {
  const { folder, clock, runs, source, write, value } = scene(t);
  write('a', 'BEGIN { @ = 1; }');
  clock.step(1);
  t.is(runs.length, 0);
  clock.step(1);
  t.is(runs.length, 1);
  t.deepEqual(Object.keys(source.status()), ['a.bt']);
  t.not(source.status()['a.bt'], 'running');
  runs[0]?.attached();
  t.is(source.status()['a.bt'], 'running');
  runs[0]?.record({ type: 'map', name: '', entries: [[null, 3]] });
  t.like(value('my.a'), { value: 3, start: 1002 });

  write('a', 'BEGIN { @ = 2; }');
  clock.step(2);
  t.true(runs[0]?.stopped);
  t.is(runs.length, 2);
  runs[1]?.record({ type: 'map', name: '', entries: [[null, 1]] });
  t.like(value('my.a'), { value: 1, start: 1004 });
  t.is(source.lost()['text_lines'], 2);

  rmSync(`${folder}/a.bt`);
  clock.step(1);
  t.true(runs[1]?.stopped);
  t.deepEqual(source.status(), {});
  t.is(value('my.a'), undefined);
});

test('a run that ends is begun again after pauses that double up to a minute; the reason is said when it is new', async t => {
  const { clock, runs, said, source, write } = scene(t);
  write('a', '');
  clock.step(2);
  const endRun = (why: string) => runs.at(-1)?.ended({ attached: true, why });
  for (const pauseSeconds of [1, 2, 4, 8, 16, 32, 60, 60]) {
    const before = runs.length;
    endRun('it ended');
    clock.step(pauseSeconds - 0.5);
    t.is(runs.length, before);
    clock.step(0.5);
    t.is(runs.length, before + 1);
  }
  t.is(said.filter(line => line.includes('it ended')).length, 1);
  clock.step(61);
  const before = runs.length;
  endRun('another');
  clock.step(1);
  t.is(runs.length, before + 1);
  t.is(said.filter(line => line.includes('another')).length, 1);
  await source.stop();
  t.true(runs.at(-1)?.stopped);
});

test('a name that another script tells is refused until that is gone; so is one probe too many', async t => {
  const { folder, clock, runs, source, write } = scene(t, { maxProbes: 2 });
  write('a', '', 'name: my.metric');
  clock.step(2);
  write('b', '', 'name: my.metric');
  write('c', '');
  clock.step(2);
  write('d', '');
  clock.step(2);
  t.is(runs.length, 2);
  t.regex(
    source.status()['b.bt'] ?? '',
    /b\.bt:1: got name "my\.metric", wanted one other than those of a\.bt/,
  );
  t.regex(source.status()['d.bt'] ?? '', /wanted at most 2/);
  rmSync(`${folder}/a.bt`);
  rmSync(`${folder}/c.bt`);
  clock.step(2);
  t.is(runs.length, 4);
});

test('one probe alone has a headline series', async t => {
  const { clock, runs, source, write } = scene(t);
  const living = { members: new Map([[7, '/a']]), start: 5 } as unknown as LivingInstance;
  write('a', '', 'name: my.a, labels: [cgroup], headline: true');
  clock.step(2);
  write('b', '', 'name: my.b, labels: [cgroup], headline: true');
  write('c', '', 'name: my.c, labels: [cgroup]');
  clock.step(2);
  t.regex(
    source.status()['b.bt'] ?? '',
    /b\.bt:1: got headline: true, wanted it of one probe alone: a\.bt has it/,
  );
  source.read([living]);
  for (const run of runs) run.record({ type: 'map', name: '', entries: [['7', 3]] });
  t.is(source.samples(living).length, 2);
  t.like(source.headline(living), [{ metric: { name: 'my.a' }, value: 3 }]);
  t.is(source.headline(living).length, 1);
});

test('a folder that is not there is said once, and taken up when it comes', async t => {
  const { folder, clock, runs, said, source, write } = scene(t);
  rmSync(folder, { recursive: true });
  clock.step(5);
  t.is(said.filter(line => line.includes('cannot be read')).length, 1);
  t.true((source.lost()['failed_looks'] ?? 0) >= 5);
  mkdirSync(folder);
  write('a', '');
  clock.step(2);
  t.is(runs.length, 1);
});

test('a file that cannot be looked at is refused and said, and stops no look: the others run', t => {
  const { folder, clock, runs, said, source, write } = scene(t);
  symlinkSync('loop.bt', `${folder}/loop.bt`);
  write('a', '');
  clock.step(5);
  t.is(runs.length, 1);
  t.regex(source.status()['loop.bt'] ?? '', /ELOOP/);
  t.is(said.filter(line => line.includes('loop.bt is refused')).length, 1);
  t.is(source.lost()['failed_looks'], 0);
  t.like(
    source.host().find(({ attributes }) => Object.values(attributes ?? {}).includes('loop.bt')),
    { metric: 'sculptor.agent.probe.available', value: 0 },
  );
});

test('when the interval changes a script is run anew and prints by that one; its counter and its losses go on', t => {
  const { clock, runs, settings, source, write, value } = scene(t);
  write('a', 'BEGIN { @ = 1; }');
  clock.step(2);
  t.true(runs[0]?.program.includes('interval:ms:5000 '));
  runs[0]?.attached();
  runs[0]?.record({ type: 'map', name: '', entries: [[null, 3]] });
  clock.step(10);
  t.is(runs.length, 1);

  settings.printIntervalSeconds = 0.5;
  clock.step(1);
  t.deepEqual(
    runs.map(({ stopped }) => stopped),
    [true, false],
  );
  t.true(runs[1]?.program.includes('interval:ms:500 '));
  runs[1]?.attached();
  t.is(source.status()['a.bt'], 'running');
  runs[1]?.record({ type: 'map', name: '', entries: [[null, 2]] });
  t.like(value('my.a'), { value: 5, start: 1002 });
  t.is(source.lost()['text_lines'], 2);
  t.is(source.host().find(({ metric }) => metric === 'sculptor.agent.probe.restarts')?.value, 0);

  runs[1]?.ended({ attached: true, why: 'it was killed' });
  settings.printIntervalSeconds = 2;
  clock.step(1);
  t.is(runs.length, 3, 'one that waits to be begun again is not begun twice');
  t.true(runs[2]?.program.includes('interval:ms:2000 '));
});
