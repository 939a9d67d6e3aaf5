import { withLab } from './lab.ts';
import { needsLab } from './needs-lab.ts';

const labTest = needsLab();

labTest('the lab is a host of two NUMA nodes with cgroup v2', async t => {
  t.timeout(300_000);
  await withLab({}, async lab => {
    t.log(`answered after ${lab.bootSeconds.toFixed(1)} s`);
    t.is(await lab.run('cat /sys/devices/system/node/node0/distance'), '10 21\n');
    t.is(await lab.run('cat /sys/devices/system/node/node1/cpulist'), '2-3\n');
    t.regex(await lab.run('cat /sys/fs/cgroup/cgroup.controllers'), /cpuset cpu io memory/);
    t.regex(await lab.run('uname -r'), /^6\.1\./);
    t.regex(await lab.run('cd /checkout && node -p process.version'), /^v24/);
    const { code, err } = await lab.tryRun('echo no >&2; exit 3');
    t.deepEqual({ code, err }, { code: 3, err: 'no\n' });
  });
});
