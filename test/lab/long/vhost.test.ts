import { setTimeout as sleep } from 'node:timers/promises';
import { buildGuest } from '../guest/guest.ts';
import type { ToldVms } from '../inside/told-vms.ts';
import { type Lab, withLab } from '../lab.ts';
import { labKernels, needsLab } from '../needs-lab.ts';

const vm = 'b0000000-0000-4000-8000-000000000004';
const mac = '52:54:00:12:34:57';
/** So many datagrams, each with headers of Ethernet, IP and UDP. */
const [count, frame] = [200, 1000 + 42];

async function interfacesOf(lab: Lab): Promise<Readonly<Record<string, number>>> {
  return (JSON.parse(await lab.run('cat /tmp/told.json')) as ToldVms).vms[vm]?.interfaces ?? {};
}

/** What is told when as many frames came in as were sent. */
async function toldOf(lab: Lab, frames: number): Promise<Readonly<Record<string, number>>> {
  const until = performance.now() + 60_000;
  for (;;) {
    const now = await interfacesOf(lab);
    if (now['packets vm0 transmit'] === frames) return now;
    if (performance.now() > until)
      throw new Error(`not within a minute: ${frames} frames; told: ${JSON.stringify(now)}`);
    await sleep(1000);
  }
}

for (const kernel of labKernels) {
  needsLab(kernel)(
    `${kernel}: what vhost-net carries for a nested guest, past QEMU, is told of its tap frame by frame`,
    async t => {
      t.timeout(400_000);
      const folder = `/${buildGuest(kernel).split('/').at(-1)}`;
      await withLab({ kernel, deadlineSeconds: 390 }, async lab => {
        await lab.run(
          `modprobe -a kvm_amd tun vhost_net && ip tuntap add dev vm0 mode tap && ip link set vm0 addrgenmode none &&
           ip addr add 10.98.0.1/24 dev vm0 && ip link set vm0 up && ip neigh add 10.98.0.2 lladdr ${mac} dev vm0`,
        );
        await lab.start(
          `cd /checkout && exec node test/lab/inside/told-vms.ts /tmp/told.json ${vm}`,
          '/tmp/agent.log',
        );
        await lab.until('test -e /tmp/told.json || { cat /tmp/agent.log; exit 1; }', 150);
        const { tgid } = await lab.start(
          `mkdir /sys/fs/cgroup/vm && echo $$ >/sys/fs/cgroup/vm/cgroup.procs && export CPUS=1 MODULES=virtio_pci,virtio_net &&
           exec sh /checkout/test/lab/guest/run-guest.sh ${folder} kvm echo ${vm} /tmp/vm.qmp echo \
             -netdev tap,id=n0,ifname=vm0,script=no,downscript=no,vhost=on -device virtio-net-pci,netdev=n0,mac=${mac},romfile=`,
          '/tmp/guest.log',
        );
        await lab.until('grep -q ^READY /tmp/guest.log || { cat /tmp/guest.log; exit 1; }', 120);
        // Its worker is a thread of the kernel's, and since Linux 6.4 one of QEMU's; each turn of it is a switch.
        const turns = async (): Promise<number> =>
          Number(
            await lab.run(
              `cat $(grep -l '^vhost-${tgid}$' /proc/[0-9]*/task/[0-9]*/comm | sed s/comm/schedstat/) | cut -d ' ' -f 3`,
            ),
          );
        t.deepEqual(Object.values(await toldOf(lab, 0)), [0, 0, 0, 0, 0, 0]);
        const turnsBefore = await turns();

        // The guest sends each frame back as it came; who sent it counts what is for him.
        const back = await lab.run(
          `python3 -c 'import socket
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
back = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); back.bind(("vm0", 0)); back.settimeout(30)
frames = bytes = 0
for _ in range(${count}):
  out.sendto(b"x" * 1000, ("10.98.0.2", 9))
  while True:
    frame, sender = back.recvfrom(65536)
    if sender[2] == socket.PACKET_HOST: break
  frames += 1; bytes += len(frame)
print(frames, bytes)'`,
          { timeoutSeconds: 120 },
        );
        t.is(back.trim(), `${count} ${count * frame}`);
        const told = await toldOf(lab, count);
        t.log(JSON.stringify(told));
        t.deepEqual(told, {
          'io vm0 receive': count * frame,
          'io vm0 transmit': count * frame,
          'packets vm0 receive': count,
          'packets vm0 transmit': count,
          'dropped vm0 receive': 0,
          'dropped vm0 transmit': 0,
        });
        const turned = (await turns()) - turnsBefore;
        t.log(`vhost's worker had ${turned} turns of a CPU`);
        t.true(turned > count / 2, 'it was vhost that carried them');
      });
    },
  );
}
