import { existsSync } from 'node:fs';
import test from 'ava';
import {
  atItsPace,
  type SchedulerOptions,
  startScheduler,
} from '../../../src/agent/cpu/scheduler.ts';
import type { BpfObject, Native } from '../../../src/linux/native.ts';
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
