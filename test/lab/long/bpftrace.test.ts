import { holdsSchedParity, type SchedParity } from '../../support/sched-parity.ts';
import type { BpftraceLab } from '../inside/bpftrace.ts';
import type { BpftraceBlockLab } from '../inside/bpftrace-block.ts';
import type { NetworkLab } from '../inside/bpftrace-network.ts';
import { withLab } from '../lab.ts';
import { labKernels, needsLab } from '../needs-lab.ts';

for (const kernel of labKernels) {
  needsLab(kernel)(
    `on Debian's ${kernel} and cgroup v2, bpftrace tells what two threads on one CPU ran and waited, and the faults of a walk`,
    async t => {
      t.timeout(400_000);
      const lab = await withLab({ kernel }, async lab => {
        const script = 'cd /checkout && node test/lab/inside/bpftrace.ts';
        return JSON.parse(await lab.run(script, { timeoutSeconds: 280 })) as BpftraceLab;
      });
      t.log(JSON.stringify(lab));
      t.is(lab.cgroupVersion, 2);
      t.true(Math.abs(lab.run - 1) < 0.1);
      t.true(Math.abs(lab.run + lab.wait - 2) < 0.2);
      t.true(lab.latencies > 10);
      // Those of its start are some more.
      t.true(lab.faults < 1.02 * 16_384);
      // The emulated machine is slow to name the first stacks: what comes meanwhile is in excess.
      const { outliers_not_told: notTold, ...others } = lab.lost;
      t.deepEqual(Object.values(others).filter(Boolean), []);
      t.true((notTold ?? 0) < 100);
      t.like(lab.outliers, { full: 0, memory: 0 });
      const { outlier } = lab;
      t.true(outlier.seconds >= 0.001 && outlier.seconds < 1);
      t.like(outlier, { began: 'preempted', waker: null, cpu: 1, throttledSeconds: 0 });
      t.is(outlier.preemptor?.tgid, outlier.task.tgid);
      t.not(outlier.preemptor?.tid, outlier.task.tid);
      t.true(outlier.task.name.startsWith('sculpt-'));
      t.true(outlier.stack.includes('__schedule'), outlier.stack.join(' '));
    },
  );

  needsLab(kernel)(
    `on Debian's ${kernel} and cgroup v2, bpftrace tells of the scheduler what libbpf tells`,
    async t => {
      t.timeout(400_000);
      const lab = await withLab({ kernel }, async lab => {
        const script = 'cd /checkout && node test/lab/inside/sched-parity.ts';
        return JSON.parse(await lab.run(script, { timeoutSeconds: 280 })) as SchedParity;
      });
      // Its root is in memory: nobody waits for a disk.
      holdsSchedParity(t, lab, { slack: 1.5, but: ['disk'] });
      t.deepEqual(Object.values(lab.lost).filter(Boolean), []);
    },
  );

  needsLab(kernel)(
    `on Debian's ${kernel} and cgroup v2, bpftrace tells of TCP and UDP what libbpf tells, or says why not`,
    async t => {
      t.timeout(400_000);
      const lab = await withLab({ kernel }, async lab => {
        const script = 'cd /checkout && node test/lab/inside/bpftrace-network.ts';
        return JSON.parse(await lab.run(script, { timeoutSeconds: 280 })) as NetworkLab;
      });
      t.log(JSON.stringify(lab, (name, value) => (name === 'slots' ? undefined : value)));
      if ('refused' in lab) {
        t.is(kernel, '6.1');
        const why =
          /no tracepoint sock:sock_send_length, sock:sock_recv_length, which came with Linux 6\.3/;
        t.is(lab.refused.length, 2);
        for (const each of lab.refused) t.regex(each, why);
        return;
      }
      const sameOf = ([libbpf, bpftrace]: readonly unknown[]) => t.deepEqual(bpftrace, libbpf);
      for (const both of Object.values(lab.udp)) sameOf(both);
      for (const [libbpf, bpftrace] of Object.values(lab.tcp)) {
        const { rtt, ...counts } = libbpf ?? t.fail();
        t.like(bpftrace, counts);
        // The script looks each second, libbpf is made to at the end alone.
        t.true(rtt.latencyCount >= 1 && (bpftrace?.rtt.latencyCount ?? 0) >= rtt.latencyCount);
      }
      t.is(lab.udp.from[1]?.sentBytes, 6000);
      t.is(lab.tcp.client[1]?.sentBytes, 1_000_000);
      t.deepEqual(Object.values(lab.lost).filter(Boolean), []);
    },
  );

  needsLab(kernel)(
    `on Debian's ${kernel} and cgroup v2, bpftrace tells of a disk that fails, is busy and is slow what libbpf tells`,
    async t => {
      t.timeout(600_000);
      const lab = await withLab({ kernel }, async lab => {
        const script = 'cd /checkout && node test/lab/inside/bpftrace-block.ts';
        return JSON.parse(await lab.run(script, { timeoutSeconds: 480 })) as BpftraceBlockLab;
      });
      t.log(JSON.stringify(lab));
      for (const [scene, { libbpf, bpftrace }] of Object.entries(lab.scenes)) {
        const { queueNs, deviceNs, ...counts } = bpftrace;
        const { queueNs: queue, deviceNs: device, ...others } = libbpf;
        t.deepEqual(counts, others, scene);
        t.true(counts.operations >= 6, scene);
        if (!scene.includes('at a time') && !scene.includes('by four')) continue;
        // 200 reads of 2 ms each, of which the scheduler makes fewer where they are the same.
        t.true(device >= 0.2e9, `${scene}: ${device} ns`);
        t.true(Math.abs(deviceNs / device - 1) < 0.02, `${scene}: ${deviceNs} of ${device} ns`);
        const off = Math.abs(queueNs - queue);
        t.true(off <= 0.02 * queue, `${scene}: ${queueNs} of ${queue} ns`);
      }
      // Of the same sector two CPUs may delete the same key: the one that comes second fails.
      const { helper_failed = 0, ...lost } = lab.lost;
      t.true(helper_failed <= 5, `${helper_failed}`);
      t.deepEqual(Object.values(lost).filter(Boolean), []);
    },
  );
}
