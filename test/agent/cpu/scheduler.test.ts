import { existsSync } from 'node:fs';
import test from 'ava';
import {
  atItsPace,
  type SchedulerOptions,
  startScheduler,
} from '../../../src/agent/cpu/scheduler.ts';
import { ConfigError } from '../../../src/contract/errors.ts';
import type { BpfObject, Native } from '../../../src/linux/native.ts';
import type { Roots } from '../../../src/linux/roots.ts';
import { makeTree, mounts } from '../../linux/tree.ts';

const built = new URL('../../../build/bpf/sched.bpf.o', import.meta.url);
const hasProbe = existsSync(built) && existsSync('/sys/kernel/btf/vmlinux');
const withProbe = hasProbe ? test : test.skip;
if (!hasProbe) console.error('# skipped: no build/bpf/sched.bpf.o, or no BTF of the kernel');

withProbe(
  'pairs have one value for all CPUs where there may be very many, though few are there',
  async t => {
    for (const [possible, plainHashes] of [
      ['0-63', []],
      ['0-64', ['pairs']],
      ['0-239', ['pairs']],
    ] as const) {
      const roots = makeTree(t, {
        'proc/self/mountinfo': mounts.v2,
        'sys/devices/system/cpu/possible': possible,
        'sys/devices/system/cpu/present': '0-7',
        'sys/devices/system/cpu/online': '0-7',
      });
      const loaded: unknown[] = [];
      const object: Partial<BpfObject> = { close: () => undefined };
      const native: Pick<Native, 'loadObject'> = {
        loadObject: (path, options) => {
          if (!path.endsWith('/sched.bpf.o')) return object as BpfObject;
          loaded.push(options.plainHashes);
          throw new Error('seen');
        },
      };
      const config = { driver: 'libbpf', maxInstances: 16, detailIntervalSeconds: 10 };
      const layout = { version: 2, cpu: roots.cgroup, cpuset: null };
      const starts = startScheduler({
        native,
        roots,
        config,
        layout,
      } as unknown as SchedulerOptions);
      await t.throwsAsync(starts, { message: /seen/ });
      t.deepEqual(loaded, [plainHashes], possible);
    }
  },
);

/** Nothing is loaded: an object that says what it is told to. */
function natives(fits: number) {
  const loaded: { name: string; btf: string | undefined }[] = [];
  let open = 0;
  const native: Pick<Native, 'loadObject'> = {
    loadObject: (path, { btf }) => {
      loaded.push({ name: path.slice(path.lastIndexOf('/') + 1), btf });
      open += 1;
      const object: Partial<BpfObject> = {
        runRaw: () => fits,
        mapMemory: () => Buffer.alloc(0),
        attach: () => undefined,
        close: () => {
          open -= 1;
        },
      };
      return object as BpfObject;
    },
  };
  return { native, loaded, open: () => open };
}

test('a kernel without BTF is asked by the file that is named, and what is not told is said once', async t => {
  const files = { 'proc/self/mountinfo': mounts.v2, 'sys/devices/system/cpu/online': '0' };
  const said: string[] = [];
  const optionsOf = (roots: Roots, native: Pick<Native, 'loadObject'>) =>
    ({
      native,
      roots,
      config: { driver: 'libbpf', btf: '/a/file', maxInstances: 16, detailIntervalSeconds: 10 },
      layout: { version: 2, cpu: roots.cgroup, cpuset: null },
      clock: {},
      say: (_: string, text: string) => said.push(text),
    }) as unknown as SchedulerOptions;

  const without = natives(1);
  const scheduler = await startScheduler(optionsOf(makeTree(t, files), without.native));
  t.deepEqual(without.loaded, [{ name: 'runqueue.bpf.o', btf: '/a/file' }]);
  t.is(said.length, 1);
  t.regex(
    said[0] ?? '',
    /no BTF: by \/a\/file it tells of run time.*Not told are who is throttled/,
  );
  t.true(scheduler.untold.has('sculptor.cpu.throttled.time'));
  t.false(scheduler.untold.has('sculptor.cpu.context_switches'));
  t.is(without.open(), 1);
  await scheduler.stop();
  t.is(without.open(), 0);

  const others = natives(0);
  await t.throwsAsync(startScheduler(optionsOf(makeTree(t, files), others.native)), {
    instanceOf: ConfigError,
    message: /^agent\.btf: \/a\/file: the BTF of another kernel/,
  });
  t.is(others.open(), 0);

  const own = natives(1);
  const itsOwn = makeTree(t, { ...files, 'sys/kernel/btf/vmlinux': '' });
  await t.throwsAsync(startScheduler(optionsOf(itsOwn, own.native)));
  t.deepEqual(own.loaded, [
    { name: 'affinity.bpf.o', btf: undefined },
    { name: 'sched.bpf.o', btf: undefined },
  ]);
});

test('bpftrace is read once a second at most, and libbpf as often as is asked for', t => {
  const every = (readIntervalSeconds: number) => ({ readIntervalSeconds });
  t.deepEqual(atItsPace('bpftrace', every(0.2)), every(1));
  t.deepEqual(atItsPace('bpftrace', every(5)), every(5));
  t.deepEqual(atItsPace('libbpf', every(0.2)), every(0.2));
});

withProbe(
  'the probe has the node of each CPU and room as configured, and nothing stays open where it is refused',
  async t => {
    const roots = makeTree(t, {
      'proc/self/mountinfo': mounts.v2,
      'sys/devices/system/cpu/possible': '0-3',
      'sys/devices/system/cpu/present': '0-3',
      'sys/devices/system/cpu/online': '0-1,3',
      'sys/devices/system/node/online': '0-1',
      'sys/devices/system/node/node0/cpulist': '0-1',
      'sys/devices/system/node/node1/cpulist': '3',
    });
    const loaded: unknown[] = [];
    let open = 0;
    const native: Pick<Native, 'loadObject'> = {
      loadObject: (path, { constants, maxEntries }) => {
        if (path.endsWith('/sched.bpf.o')) {
          loaded.push(constants, maxEntries?.['instances']);
          throw new Error('refused');
        }
        open += 1;
        const object: Partial<BpfObject> = {
          close: () => {
            open -= 1;
          },
        };
        return object as BpfObject;
      },
    };
    const starts = startScheduler({
      native,
      roots,
      config: { driver: 'libbpf', maxInstances: 16, detailIntervalSeconds: 10 },
      layout: { version: 1, cpu: roots.cgroup, cpuset: null },
    } as unknown as SchedulerOptions);
    await t.throwsAsync(starts, { message: /refused/ });
    const nodes = Buffer.from(Uint16Array.of(0, 0, 0, 1).buffer);
    t.deepEqual(loaded, [{ cgroup_v1: true, node_of_cpu: nodes }, 16]);
    t.is(open, 0);
  },
);
