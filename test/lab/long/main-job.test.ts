import { labKernels, needsLab } from '../needs-lab.ts';
import { runMainJob } from '../support/main-job.ts';

for (const kernel of labKernels) {
  needsLab(kernel)(
    `on Debian's ${kernel} the main job acts on cgroup v2, a CPU goes offline meanwhile, and all is given back`,
    async t => {
      await runMainJob(t, { kernel });
    },
  );
}

needsLab()(
  'where systemd owns the tree the main job acts through it, and leaves nothing behind',
  async t => {
    await runMainJob(t, { init: 'systemd' }, async ({ run }) => {
      const left = await run(
        'find /run/systemd/system.control /run/systemd/transient -name "50-*" || true',
      );
      t.is(left, '', 'drop-ins of ours');
    });
  },
);
