import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import test from 'ava';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import type { Source, SourceContext, SourceKind } from '../../../src/agent/sources/source.ts';
import { startSources, trySource } from '../../../src/agent/sources/sources.ts';
import { createTally } from '../../../src/agent/sources/tally.ts';
import { KernelInterfaceError } from '../../../src/contract/errors.ts';
import type { Capability } from '../../../src/linux/capabilities.ts';

const life = (start: number) => ({ start }) as LivingInstance;

function context(said: string[], now: () => number = () => 0): SourceContext {
  return {
    config: { placementIntervalSeconds: 60 },
    clock: { monotonicSeconds: now, unixSeconds: now },
    say: (_level: string, text: string) => void said.push(text),
  } as unknown as SourceContext;
}

const quiet: Source = {
  name: 'quiet',
  read: () => undefined,
  samples: ({ start }) => [{ metric: 'sculptor.cpu.migrations', start, value: 4 }],
  host: () => [],
  lost: () => ({ map_full: 1 }),
  forget: () => undefined,
  stop: () => undefined,
};

test('a source that the kernel refuses is said and told as unavailable, and the rest runs', t => {
  const said: string[] = [];
  const refused = () => {
    throw new KernelInterfaceError('KERNEL_MISSING', 'no such tracepoint');
  };
  const sources = startSources(
    [
      { name: 'refused', tells: 'fault latency', start: refused },
      { name: 'quiet', tells: 'nothing', start: () => quiet },
    ],
    context(said),
  );
  t.regex(said.join(), /without the source "refused" \(fault latency\): KERNEL_MISSING: no such/);
  t.deepEqual(sources.status(), {
    quiet: 'running',
    refused: 'KERNEL_MISSING: no such tracepoint',
  });
  t.deepEqual(
    sources.host(5).map(({ attributes, value }) => [...Object.values(attributes ?? {}), value]),
    [
      ['quiet', 1],
      ['refused', 'KERNEL_MISSING', 0],
    ],
  );
  t.is(sources.samples(life(1)).length, 1);
});

test('a source that measures nothing for a while is told as unavailable meanwhile', t => {
  let why: string | null = null;
  const trouble = () => (why === null ? null : ({ code: 'BPFTRACE_FAILED', why } as const));
  const sources = startSources([], context([]), [{ ...quiet, trouble }]);
  const told = () =>
    sources.host(5).map(({ attributes, value }) => [...Object.values(attributes ?? {}), value]);
  t.deepEqual([sources.status(), told()], [{ quiet: 'running' }, [['quiet', 1]]]);
  why = 'it printed nothing';
  t.deepEqual(
    [sources.status(), told()],
    [{ quiet: 'it printed nothing' }, [['quiet', 'BPFTRACE_FAILED', 0]]],
  );
});

test('a source that lacks a capability is not started, and which one is said and told', async t => {
  const root = mkdtempSync(`${tmpdir()}/sources-`);
  t.teardown(() => rmSync(root, { recursive: true }));
  mkdirSync(`${root}/self`);
  writeFileSync(`${root}/self/status`, 'CapEff:\t000000c000000000\n');
  const roots = { proc: root, sys: root, cgroup: root };
  const said: string[] = [];
  const started: string[] = [];
  const kind = (name: string, needs: readonly Capability[]): SourceKind => {
    const start = () => {
      started.push(name);
      return { ...quiet, name };
    };
    return { name, tells: 'something', needs, start };
  };
  const taps = kind('taps', ['CAP_BPF', 'CAP_SYS_PTRACE']);
  const machine = { ...context(said), roots };
  const sources = startSources([taps, kind('block', ['CAP_BPF', 'CAP_PERFMON'])], machine);
  await t.throwsAsync(trySource(taps, machine), { code: 'KERNEL_PRIVILEGE' });
  t.deepEqual(started, ['block']);
  t.regex(said.join(), /without the source "taps".*: this process has no CAP_SYS_PTRACE, which/);
  const told = sources.host(5).find(({ value }) => value === 0);
  t.deepEqual(Object.values(told?.attributes ?? {}), ['taps', 'KERNEL_PRIVILEGE']);
});

test('a source of what may come later is tried again once a minute, and not said again', t => {
  const said: string[] = [];
  let [now, tries, loaded] = [0, 0, false];
  const start = () => {
    tries += 1;
    if (loaded) return { ...quiet, name: 'later' };
    throw new KernelInterfaceError('KERNEL_MISSING', 'not loaded');
  };
  const sources = startSources(
    [{ name: 'later', tells: 'exits', comesLater: true, start }],
    context(said, () => now),
  );
  for (now = 10; now < 130; now += 10) sources.read([]);
  t.is(tries, 3);
  t.is(said.length, 1);
  loaded = true;
  for (now = 130; now < 200; now += 10) sources.read([]);
  t.is(tries, 4);
  t.deepEqual(sources.status(), { later: 'running' });
  t.deepEqual(
    [life(7), life(190)].flatMap(sources.samples).map(({ start }) => start),
    [180, 190],
    'it counts from then',
  );
  t.deepEqual(said.slice(1), ['agent: the source "later" (exits) runs now']);
  t.is(sources.lost()['later_failed_reads'], 0);
});

test('a source of which nothing is selected is not started; one that is selected later counts from then', t => {
  const said: string[] = [];
  let [now, runs] = [0, 0];
  const selected = new Set<string>();
  const start = () => {
    runs += 1;
    const stop = () => {
      runs -= 1;
    };
    return { ...quiet, stop };
  };
  const sources = startSources(
    [{ name: 'quiet', tells: 'nothing', start }],
    context(said, () => now),
    [],
    { tellsOf: name => selected.has(name) },
  );
  t.is(runs, 0);
  t.deepEqual(sources.status(), { quiet: 'not selected' });
  t.deepEqual(sources.host(5)[0]?.attributes, {
    'sculptor.agent.source': 'quiet',
    'sculptor.reason': 'not_selected',
  });
  now = 100;
  selected.add('quiet');
  sources.follow();
  t.is(runs, 1);
  t.deepEqual(
    [life(7), life(120)].flatMap(sources.samples).map(({ start }) => start),
    [100, 120],
  );
  selected.clear();
  sources.follow();
  t.is(runs, 0);
  t.deepEqual(sources.samples(life(7)), []);
  t.is(sources.lost()['quiet_map_full'], 1);
  selected.add('quiet');
  sources.follow();
  t.is(sources.lost()['quiet_map_full'], 2, 'what was lost before is not forgotten');
  t.is(said.length, 3);
  selected.clear();
  sources.follow();
  selected.add('quiet');
  sources.follow();
  t.is(sources.lost()['quiet_map_full'], 3, 'nor what was lost before that');
});

test('a source that teaches the placements runs while they need it, whatever is selected', t => {
  let needed = false;
  const sources = startSources(
    [{ name: 'quiet', tells: 'nothing', neededAnyway: () => needed, start: () => quiet }],
    context([]),
    [],
    { tellsOf: () => false },
  );
  t.is(sources.status()['quiet'], 'not selected');
  needed = true;
  sources.read([]);
  t.is(sources.status()['quiet'], 'running');
});

test('a source that is needed now and then, and lacks what it takes, is told as unavailable and said once', t => {
  const said: string[] = [];
  let [now, needed, tries] = [0, false, 0];
  const start = () => {
    tries += 1;
    throw new KernelInterfaceError('KERNEL_PRIVILEGE', 'no CAP_SYS_ADMIN');
  };
  const sources = startSources(
    [{ name: 'exits', tells: 'exits', comesLater: true, neededAnyway: () => needed, start }],
    context(said, () => now),
    [],
    { tellsOf: () => false },
  );
  for (now = 0; now < 600; now += 10) {
    needed = now % 20 === 0;
    sources.read([]);
  }
  t.true(tries >= 30);
  t.is(said.length, 1);
  needed = true;
  sources.read([]);
  t.like(sources.host(5)[0], {
    attributes: { 'sculptor.agent.source': 'exits', 'sculptor.reason': 'KERNEL_PRIVILEGE' },
    value: 0,
  });
});

test('what may come later is not tried while nothing of it is selected, and said anew where it has run since', t => {
  const said: string[] = [];
  let [now, tries, selected, isThere] = [0, 0, false, false];
  const start = () => {
    tries += 1;
    if (isThere) return quiet;
    throw new KernelInterfaceError('KERNEL_MISSING', 'not loaded');
  };
  const sources = startSources(
    [{ name: 'quiet', tells: 'exits', comesLater: true, start }],
    context(said, () => now),
    [],
    { tellsOf: () => selected },
  );
  const select = (is: boolean, there: boolean): void => {
    [selected, isThere] = [is, there];
    sources.follow();
  };
  for (now = 10; now < 130; now += 10) sources.read([]);
  t.is(tries, 0);
  const isOut = /without the source/;
  select(true, false);
  select(false, true);
  select(true, true);
  select(false, false);
  select(true, false);
  t.is(said.filter(line => isOut.test(line)).length, 2);
});

test('a series of the host begins when its source says so, else with the others', t => {
  const sample = { metric: 'sculptor.cpu.migrations', value: 1 } as const;
  const host = () => [{ ...sample, start: 3 }, sample];
  const sources = startSources([], context([]), [{ ...quiet, host }]);
  const starts = sources.host(5).filter(({ metric }) => metric === sample.metric);
  t.deepEqual(
    starts.map(({ start }) => start),
    [3, 5],
  );
});

test('what a source had lost that was stopped counts once, also while the next cannot say', t => {
  let [selected, isMute] = [true, false];
  const lost = () => {
    if (isMute) throw new Error('gone');
    return { map_full: 3 };
  };
  const sources = startSources(
    [{ name: 'quiet', tells: '', start: () => ({ ...quiet, lost }) }],
    context([]),
    [],
    { tellsOf: () => selected },
  );
  t.is(sources.lost()['quiet_map_full'], 3);
  selected = false;
  sources.follow();
  [selected, isMute] = [true, true];
  sources.follow();
  t.is(sources.lost()['quiet_map_full'], 3);
});

test('one that is to be tried is started and stopped, or only looked at where it is such a source', async t => {
  const roots = { proc: '/nonexistent', sys: '/nonexistent', cgroup: '/nonexistent' };
  const started: string[] = [];
  const kind = (name: string): SourceKind => ({
    ...{ name, tells: '' },
    start: () => {
      started.push(name);
      return { ...quiet, stop: () => void started.push(`${name} stopped`) };
    },
  });
  const look = () => ({ found: 'it is there', isSure: false });
  t.deepEqual(await trySource({ ...kind('looked at'), look }, { ...context([]), roots }), look());
  t.true((await trySource(kind('started'), { ...context([]), roots })).isSure);
  t.deepEqual(started, ['started', 'started stopped']);
  const script = (attached: string | null): SourceKind => ({
    ...{ name: 'script', tells: '' },
    start: () => ({ ...quiet, attached: Promise.resolve(attached) }),
  });
  t.true((await trySource(script(null), { ...context([]), roots })).isSure);
  await t.throwsAsync(trySource(script('no such probe'), { ...context([]), roots }), {
    code: 'BPFTRACE_FAILED',
    message: 'no such probe',
  });
});

test('all are stopped when the last process of each is gone, also of what was stopped before; one that fails is said', async t => {
  const said: string[] = [];
  const letGo: (() => void)[] = [];
  const slow = (): Source => ({
    ...quiet,
    stop: () => new Promise<void>(resolve => void letGo.push(resolve)),
  });
  const failing = { ...quiet, name: 'failing', stop: () => Promise.reject(new Error('gone')) };
  let selected = true;
  const sources = startSources(
    [
      { name: 'quiet', tells: '', start: slow },
      { name: 'failing', tells: '', start: () => failing },
      { name: 'other', tells: '', start: () => ({ ...slow(), name: 'other' }) },
    ],
    context(said),
    [],
    { tellsOf: name => selected || name === 'other' },
  );
  selected = false;
  sources.follow();
  let done = false;
  const stopped = sources.stop().then(() => {
    done = true;
  });
  await new Promise(setImmediate);
  t.is(letGo.length, 2);
  t.regex(said.join(), /source "failing" failed \(1 times so far\): gone/);
  letGo[1]?.();
  await new Promise(setImmediate);
  t.false(done);
  letGo[0]?.();
  await stopped;
  t.true(done);
});

test('a source whose reading fails is counted, said now and then, and does not stop the others', t => {
  const said: string[] = [];
  let [reads, now] = [0, 0];
  const counted = () => {
    reads += 1;
  };
  const broken = () => {
    throw new Error('gone');
  };
  const sources = startSources(
    [
      { name: 'broken', tells: '', start: () => ({ ...quiet, name: 'broken', read: broken }) },
      { name: 'quiet', tells: '', start: () => ({ ...quiet, read: counted }) },
    ],
    context(said, () => now),
  );
  for (now = 0; now < 600; now += 10) sources.read([]);
  t.is(reads, 60);
  t.is(said.length, 2);
  t.deepEqual(sources.lost(), {
    broken_map_full: 1,
    broken_failed_reads: 60,
    quiet_map_full: 1,
    quiet_failed_reads: 0,
  });
});

test('a source that cannot be asked fails nobody: the others are told, what it lost does not fall, and it is said once', t => {
  const said: string[] = [];
  let broken = false;
  const unless = <T>(answer: T): T => {
    if (broken) throw new Error('gone');
    return answer;
  };
  const sample = { metric: 'sculptor.cpu.migrations', value: 1 } as const;
  const fragile: Source = {
    ...quiet,
    name: 'fragile',
    samples: one => unless(quiet.samples(one)),
    host: () => unless([sample]),
    lost: () => unless({ map_full: 3 }),
  };
  const sources = startSources(
    [
      { name: 'fragile', tells: '', start: () => fragile },
      { name: 'quiet', tells: '', start: () => ({ ...quiet, host: () => [sample] }) },
    ],
    context(said),
  );
  const told = () => ({
    samples: sources.samples(life(1)).length,
    host: sources.host(5).filter(({ metric }) => metric === sample.metric).length,
    lost: sources.lost()['fragile_map_full'],
  });
  t.deepEqual(told(), { samples: 2, host: 2, lost: 3 });
  broken = true;
  t.deepEqual(told(), { samples: 1, host: 1, lost: 3 });
  t.is(sources.lost()['quiet_map_full'], 1);
  t.is(sources.lost()['fragile_failed_reads'], 5);
  t.is(said.length, 1);
  t.regex(said.join(), /source "fragile" failed \(1 times so far\): .*gone/);
});

test('every source that is selected no more is stopped, though it cannot say what it lost, or fails to stop', t => {
  const said: string[] = [];
  const stopped: string[] = [];
  const selected = new Set(['mute', 'stuck', 'quiet']);
  const fail = (): never => {
    throw new Error('gone');
  };
  const kind = (name: string, more: Partial<Source>): SourceKind => {
    const stop = () => void stopped.push(name);
    return { name, tells: '', start: () => ({ ...quiet, name, stop, ...more }) };
  };
  const stuck = () => {
    stopped.push('stuck');
    fail();
  };
  const kinds = [kind('mute', { lost: fail }), kind('stuck', { stop: stuck }), kind('quiet', {})];
  const start = () =>
    startSources(kinds, context(said), [], { tellsOf: name => selected.has(name) });
  const whole = start();
  t.notThrows(() => whole.stop());
  t.deepEqual(stopped.splice(0), ['mute', 'stuck', 'quiet']);

  const sources = start();
  selected.clear();
  t.notThrows(() => sources.follow());
  t.deepEqual(stopped, ['mute', 'stuck', 'quiet']);
  t.is(sources.status()['stuck'], 'not selected');
  t.like(sources.lost(), { mute_failed_reads: 1, stuck_failed_reads: 1, stuck_map_full: 1 });
});

test('a tally never falls: cgroups come, go and begin anew, and may change hands', t => {
  const tally = createTally(2);
  const [first, second] = [life(1), life(2)];
  tally.add(first, 7, Float64Array.of(10, 1));
  tally.add(first, 8, Float64Array.of(5, 5));
  t.deepEqual([...tally.of(first)], [15, 6]);
  tally.add(first, 7, Float64Array.of(3, 0));
  t.deepEqual([...tally.of(first)], [18, 6], 'the key was made anew');
  tally.add(second, 8, Float64Array.of(6, 7));
  t.deepEqual([...tally.of(second)], [1, 2], "what came before is the first one's");
  tally.add(second, 8, Float64Array.of(9, 6));
  t.deepEqual(
    [...tally.of(second)],
    [4, 2],
    'a counter that falls while others grow takes nothing',
  );
  tally.forget([8]);
  tally.add(second, 8, Float64Array.of(6, 7));
  t.deepEqual([...tally.of(second)], [10, 9]);
  t.deepEqual([...tally.of(life(3))], [0, 0]);
});
