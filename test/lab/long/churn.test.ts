import { type Churned, judgeChurn } from '../../support/churn.ts';
import { withLab } from '../lab.ts';
import { labKernels, needsLab } from '../needs-lab.ts';
import { mostUnstored } from '../support/unstored.ts';

/** As test/kernel/churn.test.ts, with so many threads as an emulated CPU has time for. */
const wanted = {
  ...{ cgroups: 10, threads: 500, threadsPerSecond: 40, cgroupsPerSecond: 0.25 },
  ...{ settleSeconds: 30, seconds: 60, detailIntervalSeconds: 5 },
};

for (const kernel of labKernels)
  needsLab(kernel)(
    `on Debian's ${kernel} with cgroup v2 an agent beside threads and cgroups that come and go neither grows nor loses any`,
    async t => {
      t.timeout(600_000);
      const churned = await withLab({ kernel, deadlineSeconds: 280 }, async lab => {
        const script = `cd /checkout && node test/lab/inside/churn.ts '${JSON.stringify(wanted)}'`;
        return JSON.parse(await lab.run(script, { timeoutSeconds: 250 })) as Churned;
      });
      judgeChurn(t, wanted, churned, mostUnstored(kernel));
    },
  );
