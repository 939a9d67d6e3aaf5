import { setTimeout as sleep } from 'node:timers/promises';
import { buildGuest } from '../guest/guest.ts';
import type { ToldVms } from '../inside/told-vms.ts';
import { withLab } from '../lab.ts';
import { needsLab } from '../needs-lab.ts';

const vm = 'b0000000-0000-4000-8000-000000000003';
const spin = '/checkout/build/sculpt-workload spin';

needsLab()(
  "a guest's steal and the host's wait of the vCPU it ran on are the same time",
  async t => {
    t.timeout(300_000);
    const folder = `/${buildGuest().split('/').at(-1)}`;
    await withLab({ deadlineSeconds: 290 }, async lab => {
      await lab.run('modprobe kvm_amd');
      await lab.start(
        `cd /checkout && exec node test/lab/inside/told-vms.ts /tmp/told.json ${vm}`,
        '/tmp/agent.log',
      );
      await lab.until('test -e /tmp/told.json || { cat /tmp/agent.log; exit 1; }', 150);
      await lab.start(
        `mkdir /sys/fs/cgroup/vm && echo $$ >/sys/fs/cgroup/vm/cgroup.procs && export CPUS=1 &&
         exec sh /checkout/test/lab/guest/run-guest.sh ${folder} kvm stolen ${vm} /tmp/vm.qmp busy+steal,1000`,
        '/tmp/guest.log',
      );
      await lab.until('grep -q ^STEAL /tmp/guest.log', 120);
      await lab.run(
        'for t in /proc/[0-9]*/task/[0-9]*; do if grep -q "^CPU 0/KVM" $t/comm 2>/dev/null; then taskset -cp 2 $(basename $t); fi; done',
      );
      // In a cgroup of its own, and of the same weight: each gets half of the CPU.
      const hog = await lab.start(
        `mkdir /sys/fs/cgroup/hog && echo $$ >/sys/fs/cgroup/hog/cgroup.procs && exec taskset -c 2 ${spin}`,
        '/tmp/hog.log',
      );
      await sleep(25_000);
      await hog.stop('KILL');
      // What was stolen and waited stands still now; both tell it within a few seconds.
      await sleep(6000);
      const told = JSON.parse(await lab.run('cat /tmp/told.json')) as ToldVms;
      const waited = told.vms[vm]?.vcpus.find(
        each => each.vcpu === 0 && each.metric === 'sculptor.task.runqueue.wait',
      )?.value;
      const lines = (await lab.run('grep ^STEAL /tmp/guest.log')).trim().split('\n');
      const stolen = Number(lines.at(-1)?.split(' ')[1]);
      t.log(
        `${stolen} s stolen by the guest's account, ${waited?.toFixed(2)} s waited by the host's`,
      );
      t.true(stolen > 5);
      t.true(Math.abs(stolen / Number(waited) - 1) < 0.1);
    });
  },
);
