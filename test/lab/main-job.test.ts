import { labKernels, needsLab } from './needs-lab.ts';
import { runMainJob } from './support/main-job.ts';

for (const kernel of labKernels) {
  needsLab(kernel)(
    `on Debian's ${kernel} the main job acts on cgroup v2, a CPU goes offline meanwhile, and all is given back`,
    async t => {
      await runMainJob(t, { kernel });
    },
  );
}
