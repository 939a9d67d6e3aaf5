import { labKernels, needsLab } from '../needs-lab.ts';
import { columnOf, measureInLab, writtenColumn } from '../support/privileges.ts';

for (const kernel of labKernels) {
  needsLab(kernel)(
    `on Debian's ${kernel} every source needs what docs/privileges.md says`,
    async t => {
      t.timeout(620_000);
      const found = columnOf(`Debian ${kernel}`, await measureInLab(kernel));
      t.deepEqual(found, writtenColumn(`Debian ${kernel}`));
    },
  );
}
