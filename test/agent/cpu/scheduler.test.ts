import { existsSync } from 'node:fs';
import test from 'ava';
import { type SchedulerOptions, startScheduler } from '../../../src/agent/cpu/scheduler.ts';
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
