import type { RunqueueLab } from '../inside/runqueue.ts';
import { withLab } from '../lab.ts';
import { labKernels, needsLab } from '../needs-lab.ts';

for (const kernel of labKernels) {
  needsLab(kernel)(
    `on Debian's ${kernel} and cgroup v2, raw tracepoints tell what two threads on one CPU ran and waited, by the BTF in a file`,
    async t => {
      t.timeout(400_000);
      const lab = await withLab({ kernel }, async lab => {
        const script = 'cd /checkout && node test/lab/inside/runqueue.ts';
        return JSON.parse(await lab.run(script, { timeoutSeconds: 280 })) as RunqueueLab;
      });
      t.log(JSON.stringify(lab));
      t.is(lab.cgroupVersion, 2);
      t.true(Math.abs(lab.run - 1) < 0.1);
      t.true(Math.abs(lab.run + lab.wait - 2) < 0.1);
      t.true(lab.latencies > 10);
      // A sleep that a signal kept from happening is told as one by older kernels: the whole machine's, seen to be none.
      const { unseen_switch: unseen = 0, ...others } = lab.lost;
      t.true(unseen < 10, `${unseen}`);
      t.deepEqual(Object.values(others).filter(Boolean), []);
    },
  );
}
