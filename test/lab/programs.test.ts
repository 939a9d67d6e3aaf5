import { needs } from '../support/needs.ts';
import { needsLab } from './needs-lab.ts';
import { columnOf, readColumn, thisKernel, tryHere, tryInLab } from './support/kernels.ts';

for (const kernel of ['6.1', '6.12']) {
  needsLab(kernel)(
    `on Debian's ${kernel} every BPF program does what docs/kernels.md says`,
    async t => {
      t.timeout(400_000);
      const found = columnOf(await tryInLab(kernel));
      t.true(found.size > 0);
      t.deepEqual(found, readColumn(`Debian ${kernel}`));
    },
  );
}

needs(
  'root',
  'btf',
  'addon',
)('on this machine every BPF program does what docs/kernels.md says', t => {
  t.timeout(120_000);
  const written = readColumn(thisKernel());
  const found = columnOf(tryHere());
  if (written.size > 0) t.deepEqual(found, written);
  else {
    t.log(`docs/kernels.md says nothing of ${thisKernel()}, where all of it should count`);
    for (const [program, cell] of found) t.is(cell, 'counts', program);
  }
});
