import { near } from '../support/sched-scene.ts';
import type { SchedulingLab } from './inside/scheduling.ts';
import { withLab } from './lab.ts';
import { labKernels, needsLab } from './needs-lab.ts';
import { halveFrequency } from './support/frequency.ts';

for (const kernel of labKernels) {
  needsLab(kernel)(
    `on Debian's ${kernel} and cgroup v2, throttling, waiting, who is waited for, locks and modes are told for what they are`,
    async t => {
      t.timeout(320_000);
      const seen = await withLab({ kernel }, async lab => {
        await halveFrequency(lab, 1);
        const script = 'cd /checkout && node test/lab/inside/scheduling.ts';
        return JSON.parse(await lab.run(script, { timeoutSeconds: 280 })) as SchedulingLab;
      });
      t.log(JSON.stringify(seen));
      t.is(seen.cgroupVersion, 2);

      for (const name of ['alone', 'beside', 'slow'] as const) {
        const { run, wait, throttled, byCgroup, delayed } = seen[name];
        near(t, run, 0.2, 0.03, `${name}: run`);
        near(t, run + wait + throttled, 1, 0.05, `${name}: sum`);
        near(t, throttled, byCgroup, 0.1 * byCgroup, `${name}: cpu.stat`);
        near(t, wait + throttled, delayed, 0.08, `${name}: schedstat`);
        near(t, wait, delayed - byCgroup, 0.08, `${name}: schedstat without cpu.stat`);
      }
      // Whoever has a CPU of its own waits for it no longer than an emulated machine's own doings take.
      t.true(seen.alone.wait < 0.1 * seen.alone.throttled, `wait: ${seen.alone.wait}`);
      // How long a spinner with a quota waits while it may run depends on the kernel; its neighbour waits as long as it runs.
      for (const { run, neighbour } of [seen.beside, seen.slow]) {
        near(t, neighbour.wait, run, 0.05, "neighbour's wait");
        t.is(neighbour.throttled, 0);
      }

      const { ran, waited, charged, lost } = seen.threeToOne;
      near(t, ran, 3, 0.4, 'they run');
      near(t, waited, ran, 0.4, 'it waited for them');
      near(t, charged, 1, 0.05, 'of all that it waited');
      t.is(lost, 0);

      const { convoy, spinner, copier } = seen.offCpu;
      near(t, convoy.lock / convoy.sleep, 3, 0.4, 'three wait for the lock, and who has it sleeps');
      t.true(convoy.io + convoy.uninterruptible < 0.1 * convoy.sleep);
      // By ticks, of which an emulated CPU misses many when its own is busy: who had which share of those that came.
      const inKernel = ({ user, kernel }: typeof spinner) => kernel / (user + kernel);
      t.true(inKernel(spinner) < 0.2, `spinner: ${inKernel(spinner)} in the kernel`);
      t.true(inKernel(copier) > 0.75, `dd: ${inKernel(copier)} in the kernel`);
    },
  );
}
