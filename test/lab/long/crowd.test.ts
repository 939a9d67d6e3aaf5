import type { CrowdLab } from '../inside/crowd.ts';
import { withLab } from '../lab.ts';
import { labKernels, needsLab } from '../needs-lab.ts';
import { mostUnstored } from '../support/unstored.ts';

for (const kernel of labKernels) {
  needsLab(kernel)(
    `on Debian's ${kernel} nothing is lost of 10,000 threads in 200 cgroups, and their totals are those of the threads`,
    async t => {
      t.timeout(600_000);
      const lab = await withLab({ kernel, deadlineSeconds: 280 }, async lab => {
        const script = 'cd /checkout && node test/lab/inside/crowd.ts';
        return JSON.parse(await lab.run(script, { timeoutSeconds: 250 })) as CrowdLab;
      });
      t.log(JSON.stringify(lab));
      t.true(lab.switches > 20_000);
      const { task_storage: unstored = -1, unseen_switch: unseen = -1, ...others } = lab.lost;
      const most = mostUnstored(kernel);
      t.true(unstored >= 0 && unstored <= most, `task_storage: ${unstored}`);
      t.true(unseen >= 0 && unseen <= most, `unseen_switch: ${unseen}`);
      t.deepEqual(
        Object.entries(others).filter(([, count]) => count > 0),
        [],
      );
      t.true(lab.rollup.switches <= 0.0001, `of all: ${lab.rollup.switches}`);
      t.true(lab.rollup.worst <= 0.001, `of one: ${lab.rollup.worst}`);
    },
  );
}
