import { mkdirSync, rmSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { capabilitiesOf } from '../../../src/agent/capabilities.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import { accessSource, startAccessSource } from '../../../src/agent/memory/access-source.ts';
import type { SourceContext } from '../../../src/agent/sources/source.ts';
import { agentConfigSchema } from '../../../src/contract/config.ts';
import { KernelInterfaceError } from '../../../src/contract/errors.ts';
import { readCgroupLayout } from '../../../src/linux/cgroups.ts';
import { takeDamon } from '../../../src/linux/damon.ts';
import { markFile } from '../../../src/linux/damon-owner.ts';
import { makeTree, mounts, residentFiles } from '../../linux/tree.ts';
import { damonFiles, fakeDamon } from '../../support/fake-damon.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

const isMark = (line: string) => line.startsWith(`0/${markFile} `);
const [mib, gib] = [1 << 20, 1 << 30];
const began = 1_000_000;

/**
 * VMs with 200 MiB in memory each, and containers whose processes have so much each; two instances can be measured at once, in
 * windows of 10 s.
 */
function start(
  t: ExecutionContext,
  vms = 1,
  intervalSeconds = 60,
  containers: readonly (readonly number[])[] = [],
) {
  const indexes = Array.from({ length: vms }, (_, i) => i);
  const uuids = indexes.map(i => `1b671a64-40d5-491e-99b0-da01ff1f33${10 + i}`);
  const filesOf = (i: number) => {
    const cmdline = ['qemu-system-x86_64', '-uuid', uuids[i] ?? ''];
    const files = residentFiles(50 + i, 150, { cmdline });
    const status = `proc/${50 + i}/status`;
    return {
      [`cgroup/vm${i}/cgroup.procs`]: `${50 + i}`,
      ...files,
      [status]: `${files[status]}\nHugetlbPages:\t  ${50 * 1024} kB`,
    };
  };
  const containerFiles = (residentMib: readonly number[], i: number) => ({
    [`cgroup/c${i}/cgroup.procs`]: residentMib.map((_, nth) => 100 + 10 * i + nth).join('\n'),
    ...Object.assign({}, ...residentMib.map((mib, nth) => residentFiles(100 + 10 * i + nth, mib))),
  });
  const tree = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'cpu',
    ...damonFiles,
    ...Object.assign({}, ...indexes.map(filesOf), ...containers.map(containerFiles)),
  });
  const kernel = fakeDamon(tree);
  const clock = steppedClock(began);
  const said: string[] = [];
  const context = {
    config: { placementIntervalSeconds: intervalSeconds },
    roots: tree,
    layout: readCgroupLayout(tree),
    clock,
    say: (_level: string, text: string) => void said.push(text),
  } as unknown as SourceContext;
  /** By process: where its only mapping begins, and how long it is. */
  const [startOf, mappedMib] = [new Map<number, number>(), new Map<number, number>()];
  let isOpen = true;
  const source = startAccessSource(
    context,
    {
      takeDamon: (roots, options) => takeDamon(roots, options, kernel.writer),
      openMappings: () => ({
        of: async tgid => {
          const start = startOf.get(tgid) ?? gib;
          return [{ start, end: start + (mappedMib.get(tgid) ?? 1024) * mib }];
        },
        close: () => {
          isOpen = false;
        },
      }),
    },
    { kdamonds: 2, windowSeconds: 10, parts: 4, windows: 5 },
  );
  t.teardown(source.stop);
  const livingAs = (instance: object, path: string, cgroupId: number) =>
    ({
      ...{ instance, path, start: began - 100 },
      members: new Map([[cgroupId, path]]),
    }) as unknown as LivingInstance;
  const living = [
    ...indexes.map(i => livingAs({ id: uuids[i], kind: 'vm', name: `web${i}` }, `/vm${i}`, 7 + i)),
    ...containers.map((_, i) =>
      livingAs({ id: `/c${i}`, kind: 'container', name: `c${i}` }, `/c${i}`, 70 + i),
    ),
  ];
  source.read(living);
  const pass = async (seconds: number): Promise<void> => {
    for (let i = 0; i < seconds * 2; i += 1) {
      clock.step(0.5);
      for (let turns = 0; turns < 12; turns += 1) await new Promise(setImmediate);
    }
  };
  /** In five windows, with so much used in each. */
  const finds = (tgid: number, usedMib: number) => {
    const unusedMib = (mappedMib.get(tgid) ?? 1024) - usedMib;
    kernel.finds(tgid, [900, 5 * usedMib * mib], [1603, 5 * unusedMib * mib]);
  };
  return {
    ...{ source, context, living, tree, kernel, said, pass, startOf, mappedMib, finds },
    isOpen: () => isOpen,
    uses: (vm: number, usedMib: number) => finds(50 + vm, usedMib),
    told: (vm = 0) =>
      source
        .samples(living[vm] as LivingInstance)
        .map(({ metric, value }) => [String(metric).split('.').at(-1), Number(value) / mib]),
    begun: () => kernel.written.filter(line => line.endsWith('state on')).length,
    unknown: () =>
      source.host().flatMap(({ attributes, value }) => {
        return value === 0 ? [] : [[attributes?.['sculptor.reason'], value]];
      }),
  };
}

test('what a VM used in a window is told once a minute, and what of the rest is in memory as idle', async t => {
  const { uses, told, pass, kernel, begun, unknown } = start(t);
  uses(0, 64);
  await pass(50);
  t.deepEqual([...kernel.on.values()], [50]);
  t.deepEqual(told(), []);
  await pass(14);
  const found = [
    ['referenced', 64],
    ['idle', 136],
  ];
  t.deepEqual(told(), found);
  t.deepEqual(unknown(), []);
  uses(0, 300);
  await pass(50);
  t.is(begun(), 2, 'and so on');
  t.deepEqual(told(), found);
  await pass(14);
  t.deepEqual(
    told(),
    [
      ['referenced', 200],
      ['idle', 0],
    ],
    'no more than it has in memory',
  );
});

test('VMs take turns where there are more of them than kdamonds', async t => {
  const { uses, told, pass, kernel } = start(t, 5);
  for (let i = 0; i < 5; i += 1) uses(i, 10 + i);
  await pass(8);
  t.is(kernel.on.size, 2);
  for (let i = 0; i < 40 && told(4).length === 0; i += 1) {
    t.true(kernel.on.size <= 2);
    await pass(5);
  }
  for (let i = 0; i < 5; i += 1) t.deepEqual(told(i)[0], ['referenced', 10 + i]);
});

test('a VM that ends takes its kdamond with it, and what was told of it is not told for ever', async t => {
  const { uses, told, pass, source, kernel, tree, unknown } = start(t, 2);
  for (const vm of [0, 1]) uses(vm, 64);
  await pass(64);
  t.is(told().length, 2);
  await pass(20);
  t.is(kernel.on.size, 2);
  tree.remove('proc/50');
  tree.remove('cgroup/vm0');
  kernel.ends(50);
  await pass(50);
  t.deepEqual(unknown(), [['no_qemu', 1]]);
  t.deepEqual([...kernel.on.values()], [51]);
  await pass(400);
  t.deepEqual(told(), []);
  t.is(told(1).length, 2);
  t.is(source.lost()['refused'], 0);
});

test('of a container the process is measured that has nearly all of its memory', async t => {
  const { told, pass, kernel, unknown, said, finds } = start(t, 0, 60, [
    [8, 256, 8],
    [100, 100],
    [12],
  ]);
  finds(101, 64);
  await pass(64);
  t.deepEqual(told(0), [
    ['referenced', 64],
    ['idle', 192],
  ]);
  t.deepEqual([told(1), told(2)], [[], []]);
  t.deepEqual(unknown(), [
    ['spread', 1],
    ['too_small', 1],
  ]);
  await pass(600);
  t.deepEqual([...kernel.on.values()], [101], 'no kdamond for the others');
  t.deepEqual(said, [], 'nobody is to mend that');
});

test('a container whose process ends meanwhile is told of the one after it', async t => {
  const { told, pass, tree, kernel, unknown, finds } = start(t, 0, 60, [[256]]);
  await pass(20);
  tree.remove('proc/100');
  kernel.ends(100);
  tree.write({ 'cgroup/c0/cgroup.procs': '109', ...residentFiles(109, 128) });
  finds(109, 64);
  await pass(45);
  t.deepEqual(told(), []);
  t.deepEqual(unknown(), [['ended', 1]]);
  await pass(64);
  t.deepEqual(told()[1], ['idle', 64]);
  t.deepEqual(unknown(), []);
});

test('what comes into memory meanwhile is used, and what goes was not', async t => {
  const { finds, told, pass, tree } = start(t, 0, 60, [[256], [256]]);
  for (const tgid of [100, 110]) finds(tgid, 64);
  await pass(20);
  tree.write({ ...residentFiles(100, 300), ...residentFiles(110, 100) });
  await pass(50);
  t.deepEqual(told(0), [
    ['referenced', 64 + 44],
    ['idle', 256 - 64],
  ]);
  t.deepEqual(told(1), [
    ['referenced', 64],
    ['idle', 100 - 64],
  ]);
});

test('of what was mapped meanwhile nothing is idle, and another program begins anew', async t => {
  const { finds, told, pass, startOf, unknown } = start(t, 0, 60, [[256], [256]]);
  for (const tgid of [100, 110]) finds(tgid, 64);
  await pass(20);
  // Of 1024 MiB the last 156 are new ones, and so may hold 156 of what is in memory; or all of it is new.
  startOf.set(100, gib + 156 * mib);
  startOf.set(110, 8 * gib);
  await pass(50);
  t.deepEqual(told(0), [
    ['referenced', 256 - 36],
    ['idle', 256 - 156 - 64],
  ]);
  t.deepEqual(told(1), []);
  t.deepEqual(unknown(), [['ended', 1]]);
});

test('a process that has the pid of the one that was measured is another', async t => {
  const { told, pass, tree, kernel, unknown, source, finds } = start(t, 0, 60, [[256]]);
  await pass(20);
  kernel.ends(100);
  tree.write(residentFiles(100, 128, { startTicks: 7000 }));
  finds(100, 64);
  await pass(45);
  t.deepEqual(unknown(), [['ended', 1]]);
  t.is(source.lost()['refused'], 0);
  await pass(64);
  t.deepEqual(told()[1], ['idle', 64]);
});

test('a measurement of which the process has ended by its answer is nobody’s', async t => {
  const { told, pass, tree, unknown, finds } = start(t, 0, 60, [[256]]);
  finds(100, 64);
  await pass(20);
  // The kernel has not noticed yet.
  tree.write(residentFiles(100, 128, { startTicks: 7000 }));
  await pass(45);
  t.deepEqual(told(), []);
  t.deepEqual(unknown(), [['ended', 1]]);
});

test('where the kernel finished no window it is refused, and nothing is told', async t => {
  const { told, pass, unknown, source } = start(t);
  await pass(64);
  t.deepEqual(told(), []);
  t.deepEqual(unknown(), [['damon_refused', 1]]);
  t.is(source.lost()['refused'], 1);
});

test('a VM that ended while it was measured owes nothing', async t => {
  const { pass, kernel, source, unknown } = start(t);
  await pass(20);
  source.read([]);
  kernel.refuse = () => 'ENOMEM';
  await pass(50);
  t.is(kernel.on.size, 1, 'it was asked for its answer');
  t.deepEqual(unknown(), []);
  t.is(source.lost()['refused'], 0);
});

test('VMs and containers share the turns, and what is of no interest does not hold up the others', async t => {
  const { uses, told, pass, finds } = start(t, 2, 60, [[256], [1], [1], [1], [200, 200], [256]]);
  for (const vm of [0, 1]) uses(vm, 64);
  for (const tgid of [100, 150]) finds(tgid, 64);
  await pass(160);
  for (const nth of [0, 1, 2, 7]) t.is(told(nth).length, 2, `${nth}`);
});

test('instances of which nothing comes leave their turns to the others', async t => {
  const hardlyAny = Array.from({ length: 40 }, () => [1]);
  const { pass, begun, tree, told, unknown, finds } = start(t, 0, 60, [[256], ...hardlyAny]);
  finds(100, 64);
  await pass(1200);
  const before = begun();
  await pass(600);
  t.true(begun() - before >= 9, `in ten minutes: ${begun() - before}`);
  tree.write(residentFiles(110, 128));
  finds(110, 64);
  await pass(660);
  t.is(told(1).length, 2);
  t.deepEqual(unknown(), [['too_small', 39]], 'and are looked at all the same');
});

test('an instance of which nothing comes is looked at every ten minutes at least', async t => {
  const { pass, tree, told, finds } = start(t, 0, 60, [[1]]);
  await pass(7260);
  tree.write(residentFiles(100, 128));
  finds(100, 64);
  await pass(600 + 64);
  t.is(told().length, 2);
});

test('of many instances what is known is told for as long as three rounds and measurements take', async t => {
  const { uses, told, pass, source, living, mappedMib } = start(t);
  uses(0, 64);
  await pass(62.5);
  mappedMib.set(50, 1e9);
  const many = Array.from({ length: 149 }, (_, i) => {
    const instance = { id: `/e${i}`, kind: 'container', name: `e${i}` };
    return { ...living[0], instance, members: new Map() } as unknown as LivingInstance;
  });
  source.read([...living, ...many]);
  // Of 450 and 60 s.
  await pass(3 * 510 - 10);
  t.is(told().length, 2);
  await pass(20);
  t.deepEqual(told(), []);
});

test('instances that come all the time do not take the turns of those that are there', async t => {
  const { pass, living, source, told, finds } = start(t, 1, 60, [[256]]);
  const [vm, ...containers] = living;
  source.read([vm as LivingInstance]);
  for (const tgid of [50, 100]) finds(tgid, 64);
  // One that is new at each turn.
  for (let turns = 0; turns < 140; turns += 1) {
    source.read([vm as LivingInstance, { ...containers[0] } as LivingInstance]);
    await pass(3);
  }
  t.is(told(0).length, 2, 'three rounds and two sessions later');
});

test('what is to be mended is said when it was met often enough, whatever came before', async t => {
  const { pass, kernel, tree, said } = start(t, 0, 60, [[1]]);
  await pass(400);
  tree.write(residentFiles(100, 256));
  kernel.refuse = (_, text) => (text === 'on' ? 'ENOMEM' : null);
  await pass(330);
  const before = said.length;
  await pass(120);
  t.deepEqual([before, said.length], [0, 1]);
});

test('what came to an end meanwhile is no reason to say what is met now and then', async t => {
  const { uses, told, pass, kernel, said } = start(t);
  uses(0, 64);
  for (let nth = 0; nth < 4; nth += 1) {
    kernel.refuse = (_, text) => (text === 'on' ? 'ENOMEM' : null);
    await pass(120);
    kernel.refuse = () => null;
    await pass(130);
  }
  t.is(told().length, 2);
  t.deepEqual(said, []);
});

test('what the kernel refuses is counted, by VM, and said once for all', async t => {
  const { uses, told, pass, source, kernel, unknown, said } = start(t, 2);
  for (const vm of [0, 1]) uses(vm, 64);
  kernel.refuse = (path, text) => (path.endsWith('pid_target') && text === '50' ? 'ENOMEM' : null);
  await pass(20);
  t.deepEqual(unknown(), [['damon_refused', 1]]);
  kernel.refuse = () => 'ENOMEM';
  await pass(600);
  t.deepEqual(unknown(), [['damon_refused', 2]]);
  t.true((source.lost()['refused'] ?? 0) > 8);
  t.is(said.length, 1, said.join());
  kernel.refuse = () => null;
  await pass(150);
  t.is(told(0).length + told(1).length, 4);
  t.deepEqual(unknown(), []);
});

test('an address space of which hardly anything is in memory is not told by a few samples', async t => {
  const { uses, told, pass, unknown, mappedMib, begun } = start(t);
  mappedMib.set(50, 200 * 100 + 1);
  await pass(40);
  t.deepEqual(told(), []);
  t.deepEqual(unknown(), [['too_sparse', 1]]);
  t.is(begun(), 0, 'and takes no kdamond');
  mappedMib.set(50, 200 * 100);
  uses(0, 64);
  await pass(90);
  t.is(told().length, 2);
  t.deepEqual(unknown(), []);
});

test('what is known of a VM that ended is told to its end', async t => {
  const { uses, told, pass, source } = start(t);
  uses(0, 64);
  await pass(64);
  source.read([]);
  t.is(told().length, 2);
  await pass(60);
  t.deepEqual(source.lost(), { refused: 0 });
});

test('where somebody takes DAMON meanwhile it is his, until he gives it back', async t => {
  const { uses, told, pass, kernel, tree, unknown, begun, said } = start(t, 1, 90);
  uses(0, 64);
  await pass(64);
  t.is(told().length, 2);
  t.is(begun(), 1);
  // None is on just now, so he may.
  t.is(kernel.on.size, 0);
  kernel.writer.now(`${kernel.folder}/nr_kdamonds`, '1');
  await pass(30);
  t.deepEqual(unknown(), [['damon_busy', 1]]);
  const before = kernel.written.length;
  await pass(600);
  t.is(kernel.written.length, before, 'nothing of his is written to');
  t.deepEqual(told(), []);
  tree.write({ 'sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds': '0' });
  await pass(300);
  t.is(told().length, 2);
  t.deepEqual(unknown(), []);
  t.deepEqual(said, []);
});

test('where DAMON cannot be looked at for a while, as without a free descriptor, it is taken again later', async t => {
  const { uses, told, pass, kernel, tree, unknown } = start(t, 1, 90);
  const count = `${kernel.folder}/nr_kdamonds`;
  uses(0, 64);
  await pass(64);
  kernel.writer.now(count, '1');
  await pass(30);
  t.deepEqual(unknown(), [['damon_busy', 1]]);
  // The error of another kind that a test can have.
  rmSync(count);
  mkdirSync(count);
  await pass(300);
  t.deepEqual(unknown(), [['damon_refused', 1]]);
  rmSync(count, { recursive: true });
  tree.write({ 'sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds': '0' });
  await pass(300);
  t.is(told().length, 2);
  t.deepEqual(unknown(), []);
});

test('what is measured is measured to its end, though another is told that DAMON is not ours', async t => {
  const { uses, told, pass, tree, unknown, begun, kernel } = start(t, 3);
  for (const vm of [0, 1, 2]) uses(vm, 64);
  await pass(3);
  t.is(begun(), 1);
  const [mark, own] = [`kdamonds/0/${markFile}`, kernel.written.find(isMark)];
  tree.write({ [`sys/kernel/mm/damon/admin/${mark}`]: '1' });
  await pass(61);
  t.deepEqual(unknown(), [['damon_busy', 1]]);
  t.is(told(0).length, 2);
  tree.write({ [`sys/kernel/mm/damon/admin/${mark}`]: String(own?.split(' ')[1]) });
  await pass(70);
  t.is(kernel.on.size, 2, 'all are used again');
  await pass(120);
  t.deepEqual(unknown(), []);
});

test('nothing of it is left once it is stopped, also in the middle of a window', async t => {
  const { source, pass, kernel, begun, isOpen } = start(t, 2);
  await pass(20);
  t.is(kernel.on.size, 2);
  t.true(isOpen());
  source.stop();
  t.false(isOpen());
  t.is(kernel.on.size, 0);
  t.is(kernel.written.at(-1), 'nr_kdamonds 0');
  const before = begun();
  await pass(200);
  t.is(begun(), before);
});

test('where mappings cannot be read DAMON is given back', t => {
  const { tree, kernel, context } = start(t, 0);
  const other = fakeDamon(tree);
  const takeAnew: typeof takeDamon = (roots, options) => takeDamon(roots, options, other.writer);
  kernel.writer.now(`${kernel.folder}/nr_kdamonds`, '0');
  const openMappings = () => {
    throw new KernelInterfaceError('KERNEL_PRIVILEGE', 'no iterator', {});
  };
  const options = { kdamonds: 2, windowSeconds: 10, parts: 4, windows: 5 };
  t.throws(() => startAccessSource(context, { takeDamon: takeAnew, openMappings }, options), {
    code: 'KERNEL_PRIVILEGE',
  });
  t.is(other.written[0], 'nr_kdamonds 2');
  t.is(other.written.at(-1), 'nr_kdamonds 0');
});

test('only another user than root needs a capability for it', t => {
  const of = (more: object) =>
    capabilitiesOf(agentConfigSchema.parse({ profile: 'full', ...more }), true);
  t.false(of({}).includes('CAP_DAC_OVERRIDE'));
  t.true(of({ user: 1000 }).includes('CAP_DAC_OVERRIDE'));
  t.true(accessSource.comesLater);
});
