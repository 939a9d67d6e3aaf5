import { sourceKinds } from '../../src/agent/sources/sources.ts';
import { agentConfigSchema } from '../../src/contract/config.ts';
import { bpfCapabilities } from '../../src/linux/capabilities.ts';
import { has, needs } from '../support/needs.ts';
import { thisKernel } from './support/kernels.ts';
import { columnOf, measureHere, writtenColumn } from './support/privileges.ts';

/** What is asked of the kernel by those that are asked only now and then, too, and of another user than root. */
const config = agentConfigSchema.parse({ outliers: { aboveSeconds: 1 }, user: 64_901 });

needs(
  'root',
  'btf',
  'addon',
  'namespaces',
  'loopDevice',
)(
  'on this machine every source needs what docs/privileges.md says, and what the agent believes',
  t => {
    t.timeout(150_000);
    const measured = measureHere();
    const written = writtenColumn(thisKernel());
    if (written.cells.size > 0) {
      // KVM's depends on what is loaded here, DAMON's on who else has it, TCP's on the build, which is not the test's.
      const others = ['kvm', 'access', ...(has('socketsOfFiles') ? [] : ['net'])];
      const isOurs = ([name]: [string, string]) => !others.includes(name);
      const found = [...columnOf(thisKernel(), measured).cells].filter(isOurs);
      t.deepEqual(new Map(found.sort()), new Map([...written.cells].filter(isOurs).sort()));
    }
    const sched = { name: 'sched', needs: bpfCapabilities, gains: () => [] };
    for (const { name, needs: declared = [], gains } of [sched, ...sourceKinds]) {
      const need = measured[name];
      if (need && 'needs' in need)
        t.deepEqual(need.needs, [...declared, ...(gains?.(config, '/sys') ?? [])].sort(), name);
    }
  },
);
