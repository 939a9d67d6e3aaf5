import { labKernels, needsLab } from '../needs-lab.ts';
import { columnOf, measureInLab, writtenColumn } from '../support/privileges.ts';

for (const kernel of labKernels) {
  needsLab(kernel)(
    `on Debian's ${kernel} every source needs what docs/privileges.md says`,
    async t => {
      t.timeout(620_000);
      const found = columnOf(`Debian ${kernel}`, await measureInLab(kernel));
      const written = writtenColumn(`Debian ${kernel}`);
      // In any order: those that are not there are known first.
      t.deepEqual(Object.fromEntries(found.cells), Object.fromEntries(written.cells));
    },
  );
}
