import type { Newest, Usage, WorkloadsLab } from './inside/workloads.ts';
import { withLab } from './lab.ts';
import { labKernels, needsLab } from './needs-lab.ts';

/** Counts of a command that both sides have: as wait4() says them, and as they are told. */
const counted = {
  voluntary: 'sculptor.cpu.context_switches voluntary',
  involuntary: 'sculptor.cpu.context_switches involuntary',
  minorFaults: 'container.memory.paging.faults minor',
} as const;

for (const kernel of labKernels) {
  needsLab(kernel)(
    `on Debian's ${kernel} and cgroup v2, what stress-ng and fio did is told as the kernel and they say it`,
    async t => {
      t.timeout(600_000);
      const lab = await withLab({ kernel, deadlineSeconds: 200 }, async lab => {
        const script = 'cd /checkout && node test/lab/inside/workloads.ts';
        return JSON.parse(await lab.run(script, { timeoutSeconds: 170 })) as WorkloadsLab;
      });
      t.log(JSON.stringify(lab));
      const { nothing, ...stress } = lab.stress;
      /** Told of a command, without what is told of its shell and of `time`. */
      const toldOf = (told: Newest, key: string, used: (usage: Usage) => number): number =>
        (told[key] ?? Number.NaN) - (nothing.told[key] ?? Number.NaN) + used(nothing.used);

      for (const [name, { used, told }] of Object.entries(stress)) {
        for (const [count, key] of Object.entries(counted) as [keyof typeof counted, string][]) {
          const got = toldOf(told, key, usage => usage[count]);
          const words = `${name}: ${count}: ${got} told of ${used[count]}`;
          t.true(Math.abs(got - used[count]) <= 25 + 0.02 * used[count], words);
        }
        // The kernel counts as run what a task waits for a CPU that is idle; we, as waited.
        const ran = toldOf(told, 'container.cpu.time', ({ user, system }) => user + system);
        const waited = told['sculptor.runqueue.wait'] ?? 0;
        const [wanted, words] = [
          used.user + used.system,
          `${name}: ${ran} s told, ${waited} s waited`,
        ];
        t.true(ran <= 1.02 * wanted + 0.03, `${words}: at most ${wanted} s`);
        t.true(ran + waited >= 0.98 * wanted - 0.03, `${words}: at least ${wanted} s`);
        const locked = told['sculptor.offcpu.time lock'] ?? 0;
        if (name === 'mutex') t.true(locked > 0.2 * used.elapsed, `${locked} s in locks`);
        else t.true(locked < 0.02 * used.elapsed, `${name}: ${locked} s in locks`);
      }

      const { told: two, used } = stress.cpu;
      const [ran = 0, waited = 0] = [two['container.cpu.time'], two['sculptor.runqueue.wait']];
      // Until the second has started, and once the first has ended, the other waits for nobody.
      t.true(Math.abs(waited / ran - 1) < 0.2, `${ran} s ran, ${waited} s waited, of two on a CPU`);
      const user = two['sculptor.cpu.time user'] ?? 0;
      t.true(Math.abs(user / used.user - 1) < 0.1, `${user} s of ${used.user} in user mode`);
      const faults = toldOf(
        stress.faults.told,
        'sculptor.memory.fault.latency minor count',
        usage => usage.minorFaults,
      );
      const { minorFaults } = stress.faults.used;
      t.true(Math.abs(faults / minorFaults - 1) < 0.02, `${faults} of ${minorFaults} timed`);

      let asked = 0;
      for (const direction of ['read', 'write'] as const) {
        const { operations, bytes, seconds } = lab.fio[direction];
        const newest = (metric: string) =>
          lab.fio.told[metric.replace('*', `sda ${direction}`)] ?? 0;
        t.is(newest('container.disk.io *'), bytes);
        t.is(newest('sculptor.disk.operations *'), operations);
        t.is(newest('sculptor.disk.latency device * count'), operations);
        const took =
          newest('sculptor.disk.latency queue * sum') +
          newest('sculptor.disk.latency device * sum');
        t.true(took > 0.9 * seconds && took <= seconds, `${took} s told of ${seconds} by fio`);
        asked += seconds;
      }
      const inIo = lab.fio.told['sculptor.offcpu.time io'] ?? 0;
      t.true(inIo > 0.9 * asked && inIo < 1.02 * asked, `${inIo} s in I/O of ${asked} by fio`);
    },
  );
}
