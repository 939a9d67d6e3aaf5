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
  'where systemd owns the tree the main job acts through it, and leaves nothing behind; so does the unit that ships',
  async t => {
    await runMainJob(t, { init: 'systemd' }, async ({ run, until }) => {
      const left = await run(
        'find /run/systemd/system.control /run/systemd/transient -name "50-*" || true',
      );
      t.is(left, '', 'drop-ins of ours');
      await run('ln -s /checkout /opt/sculptor');
      await run('systemctl link /opt/sculptor/deploy/systemd/sculpt-up.service');
      await run('systemctl start sculpt-up.service');
      await until('/opt/sculptor/bin/sculpt status', 180);
      await run('systemctl stop sculpt-up.service', { timeoutSeconds: 120 });
      const ended = await run('systemctl show -p Result -p ExecMainStatus sculpt-up.service');
      const lines = ended.trim().split('\n').sort();
      t.deepEqual(lines, ['ExecMainStatus=0', 'Result=success'], 'the unit that ships');
    });
  },
);
