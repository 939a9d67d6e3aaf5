import { setTimeout as sleep } from 'node:timers/promises';
import { buildGuest } from '../guest/guest.ts';
import type { KvmParity } from '../inside/kvm-parity.ts';
import { type Lab, withLab } from '../lab.ts';
import { labKernels, needsLab } from '../needs-lab.ts';

const uuid = 'b0000000-0000-4000-8000-000000000003';

async function parity(lab: Lab): Promise<KvmParity> {
  return JSON.parse(await lab.run('cat /tmp/parity.json')) as KvmParity;
}

/** What both tell when neither tells more: the agent is asked every two seconds, and bpftrace prints each. */
async function standing(lab: Lab): Promise<KvmParity> {
  let [before, now] = ['', await parity(lab)];
  while (JSON.stringify(now) !== before) {
    before = JSON.stringify(now);
    await sleep(8000);
    now = await parity(lab);
  }
  return now;
}

/** Of all vCPUs, and reasons unless one is asked for. */
function sum(values: KvmParity['libbpf'], metric: string, reason?: string): number {
  return Object.entries(values)
    .map(([key, value]) => ({ parts: key.split(' '), value }))
    .filter(({ parts }) => parts[1] === metric && (reason === undefined || parts[2] === reason))
    .reduce((total, { value }) => total + value, 0);
}

for (const kernel of labKernels) {
  needsLab(kernel)(
    `${kernel}: bpftrace tells exits, halts and wake-ups of a nested guest as libbpf does`,
    async t => {
      t.timeout(400_000);
      const folder = `/${buildGuest(kernel).split('/').at(-1)}`;
      await withLab({ kernel, deadlineSeconds: 390 }, async lab => {
        await lab.run('modprobe kvm_amd');
        await lab.start(
          `cd /checkout && exec node test/lab/inside/kvm-parity.ts /tmp/parity.json ${uuid}`,
          '/tmp/agent.log',
        );
        await lab.until(
          `grep -q '"source":"running"' /tmp/parity.json || { cat /tmp/agent.log /tmp/parity.json; false; }`,
          150,
        );
        await lab.start(
          `mkdir /sys/fs/cgroup/bare && echo $$ >/sys/fs/cgroup/bare/cgroup.procs &&
           exec sh /checkout/test/lab/guest/run-guest.sh ${folder} kvm bare ${uuid} /tmp/bare.qmp ticking,200+cpuid,20000`,
          '/tmp/bare.log',
        );
        await lab.until('grep -q ^CPUID /tmp/bare.log', 150);
        await lab.run(
          `python3 -c 'import socket
s = socket.socket(socket.AF_UNIX); s.connect("/tmp/bare.qmp"); s.recv(65536)
for c in ("qmp_capabilities", "stop"): s.send(("{\\"execute\\": \\"%s\\"}\\n" % c).encode()); s.recv(65536)'`,
        );
        const { libbpf, bpftrace, lost } = await standing(lab);
        const byKvm = Number(await lab.run('cat /sys/kernel/debug/kvm/*-*/exits'));
        t.log(`exits: ${sum(bpftrace, 'sculptor.vcpu.exits')} of ${byKvm} by KVM's own count`);
        t.true(Math.abs(sum(bpftrace, 'sculptor.vcpu.exits') / byKvm - 1) < 0.02);

        // Each count is there by vCPU and reason: those of exits, halts and wake-ups are the same, or nearly.
        for (const metric of [
          'sculptor.vcpu.exits',
          'sculptor.vcpu.halts',
          'sculptor.vcpu.wakeups',
        ]) {
          const keys = Object.keys(libbpf).filter(key => key.split(' ')[1] === metric);
          t.true(keys.length >= 2, metric);
          for (const key of keys) {
            const [got = 0, wanted = 0] = [bpftrace[key], libbpf[key]];
            t.true(
              Math.abs(got - wanted) <= Math.max(2, 0.02 * wanted),
              `${key}: ${got} ${wanted}`,
            );
          }
        }
        // What KVM says of halts is the same for both. In exits and wake-ups libbpf's has the script's programs, which are emulated as well.
        for (const [metric, reason, least, most] of [
          ['sculptor.vcpu.halt.time', undefined, 0.98, 1.02],
          ['sculptor.vcpu.wakeup.time', undefined, 0.8, 1.1],
          ['sculptor.vcpu.exit.time', undefined, 0.7, 1.1],
          ['sculptor.vcpu.exit.time', 'cpuid', 0.6, 1.1],
        ] as const) {
          const [got, wanted] = [bpftrace, libbpf].map(one => sum(one, metric, reason));
          const ratio = (got ?? 0) / (wanted ?? 0);
          t.log(`${metric} ${reason ?? ''}: ${got} and ${wanted} s`);
          t.true(ratio > least && ratio < most, `${metric}: ${ratio}`);
        }
        t.deepEqual(
          Object.entries(lost).filter(([reason, count]) => reason.startsWith('kvm_') && count > 0),
          [],
        );
      });
    },
  );
}
