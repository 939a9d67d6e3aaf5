import type { BlockLab } from '../inside/block.ts';
import { withLab } from '../lab.ts';
import { labKernels, needsLab } from '../needs-lab.ts';

for (const kernel of labKernels) {
  needsLab(kernel)(
    `on Debian's ${kernel} and cgroup v2, writeback is that of the cgroup whose pages are written`,
    async t => {
      t.timeout(400_000);
      const lab = await withLab({ kernel }, async lab => {
        const script = 'cd /checkout && node test/lab/inside/block.ts';
        return JSON.parse(await lab.run(script, { timeoutSeconds: 240 })) as BlockLab;
      });
      t.log(JSON.stringify(lab));
      t.is(lab.cgroupVersion, 2);
      t.deepEqual(lab.direct, { operations: 200, bytes: 200 * 16_384 });
      const { own, all } = lab.writeback;
      t.is(all.bytes, 1 << 20);
      t.deepEqual(own, all);
    },
  );
}
