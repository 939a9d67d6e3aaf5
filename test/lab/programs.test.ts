import { has, needs } from '../support/needs.ts';
import { labKernels, needsLab } from './needs-lab.ts';
import { columnOf, readColumn, thisKernel, tryHere, tryInLab } from './support/kernels.ts';

/** Kernels of one version differ in whether they allow an iterator over a map. */
const dispensable = 'net/charge_sockets';

for (const kernel of labKernels) {
  needsLab(kernel)(
    `on Debian's ${kernel} every BPF program does what docs/kernels.md says`,
    async t => {
      t.timeout(700_000);
      const found = columnOf(await tryInLab(kernel));
      t.true(found.size > 0);
      t.deepEqual(asRecord(found), asRecord(readColumn(`Debian ${kernel}`)));
    },
  );
}

needs(
  'root',
  'btf',
  'addon',
)('on this machine every BPF program does what docs/kernels.md says', t => {
  t.timeout(120_000);
  // KVM's depend on what is loaded and runs here, TCP's on the build, which is not the test's; and one is dispensable.
  const others = has('socketsOfFiles') ? /^kvm\// : /^(kvm|net)\//;
  const isOurs = ([program]: [string, string]) => !others.test(program) && program !== dispensable;
  const column = columnOf(tryHere());
  t.regex(column.get(dispensable) ?? '', /^(counts$|refused)/);
  const found = [...column].filter(isOurs);
  const written = [...readColumn(thisKernel())].filter(isOurs);
  t.true(found.length > 0);
  if (written.length > 0) t.deepEqual(asRecord(found), asRecord(written));
  else {
    t.log(`docs/kernels.md says nothing of ${thisKernel()}, where all of it should count`);
    for (const [program, cell] of found) t.is(cell, 'counts', program);
  }
});

/** Without an order. */
function asRecord(cells: Iterable<[string, string]>): Record<string, string> {
  return Object.fromEntries(cells);
}
