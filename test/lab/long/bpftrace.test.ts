import type { BpftraceLab } from '../inside/bpftrace.ts';
import { withLab } from '../lab.ts';
import { labKernels, needsLab } from '../needs-lab.ts';

for (const kernel of labKernels) {
  needsLab(kernel)(
    `on Debian's ${kernel} and cgroup v2, bpftrace tells what two threads on one CPU ran and waited, and the faults of a walk`,
    async t => {
      t.timeout(400_000);
      const lab = await withLab({ kernel }, async lab => {
        const script = 'cd /checkout && node test/lab/inside/bpftrace.ts';
        return JSON.parse(await lab.run(script, { timeoutSeconds: 280 })) as BpftraceLab;
      });
      t.log(JSON.stringify(lab));
      t.is(lab.cgroupVersion, 2);
      t.true(Math.abs(lab.run - 1) < 0.1);
      t.true(Math.abs(lab.run + lab.wait - 2) < 0.2);
      t.true(lab.latencies > 10);
      // Those of its start are some more.
      t.true(lab.faults < 1.02 * 16_384);
      t.deepEqual(Object.values(lab.lost).filter(Boolean), []);
    },
  );
}
