import { setTimeout as sleep } from 'node:timers/promises';
import { buildGuest } from '../guest/guest.ts';
import type { ToldVm, ToldVms } from '../inside/told-vms.ts';
import { type Lab, withLab } from '../lab.ts';
import { labKernels, needsLab } from '../needs-lab.ts';

const bare = 'b0000000-0000-4000-8000-000000000001';
const managed = 'b0000000-0000-4000-8000-000000000002';
/** What the guest of libvirt's writes to its drive. */
const [blocks, kb] = [100, 16];
/** How often the other executes the same instruction, for which it leaves to KVM. */
const cpuids = 20_000;
const scripts = '/checkout/test/lab/guest';

async function told(lab: Lab): Promise<ToldVms> {
  return JSON.parse(await lab.run('cat /tmp/told.json')) as ToldVms;
}

/** Waits until what is told holds; what it is then. */
async function eventually(
  lab: Lab,
  what: string,
  seconds: number,
  holds: (now: ToldVms) => boolean,
): Promise<ToldVms> {
  const until = performance.now() + seconds * 1000;
  for (;;) {
    const now = await told(lab);
    if (holds(now)) return now;
    if (performance.now() > until)
      throw new Error(
        `not within ${seconds} s: ${what}; told: ${JSON.stringify(now)}\n${await lab.run('tail -n 5 /tmp/*.log')}`,
      );
    await sleep(1000);
  }
}

/** The sum of a metric over the vCPUs of a VM, and over reasons unless one is asked for. */
function sum(vm: ToldVm | undefined, metric: string, reason?: string): number {
  return (vm?.vcpus ?? [])
    .filter(each => each.metric === metric && (reason === undefined || each.reason === reason))
    .reduce((total, { value }) => total + value, 0);
}

/** The bare VM when no more is told of it: an emulated machine may be late with what it counted. */
async function standing(lab: Lab): Promise<ToldVm | undefined> {
  let [before, now] = [Number.NaN, (await told(lab)).vms[bare]];
  while (sum(now, 'sculptor.vcpu.exits') !== before) {
    before = sum(now, 'sculptor.vcpu.exits');
    await sleep(6000);
    now = (await told(lab)).vms[bare];
  }
  return now;
}

function indexes(vm: ToldVm | undefined): (number | undefined)[] {
  return (vm?.placement?.tasks ?? []).map(task => task.vcpu).filter(index => index !== undefined);
}

/** Says one thing to the bare QEMU; by the lab's clock, when it had answered. */
async function say(lab: Lab, command: string): Promise<number> {
  return Number(
    await lab.run(
      `python3 -c 'import socket,sys,time
s = socket.socket(socket.AF_UNIX); s.connect("/tmp/bare.qmp"); s.recv(65536)
for c in ("qmp_capabilities", "${command}"): s.send(("{\\"execute\\": \\"%s\\"}\\n" % c).encode()); s.recv(65536); at = time.monotonic(); time.sleep(1)
print(at)'`,
    ),
  );
}

/**
 * What is told of the bare VM when its vCPUs have been for 25 s on one CPU with a task that goes before them, for half a second again and
 * again (of no period that theirs goes into).
 */
async function besideHog(lab: Lab, vm: ToldVm | undefined): Promise<ToldVm | undefined> {
  for (const { tid, vcpu } of vm?.placement?.tasks ?? [])
    if (vcpu !== undefined) await lab.run(`taskset -cp 2 ${tid}`);
  const hog = await lab.start(
    `exec taskset -c 2 chrt -f 10 python3 -c 'import time
while True:
  until = time.monotonic() + 0.5
  while time.monotonic() < until: pass
  time.sleep(0.37)'`,
    '/tmp/hog.log',
  );
  await sleep(25_000);
  await hog.stop('KILL');
  // Of what comes now next to nothing is late: it is told beside the wait of the same time.
  await sleep(6000);
  return (await told(lab)).vms[bare];
}

for (const kernel of labKernels) {
  needsLab(kernel)(
    `${kernel}: exits and halts of nested guests are counted by vCPU, under libvirt and without, also when KVM comes later; libvirt tells its guest's drive`,
    async t => {
      t.timeout(500_000);
      const folder = `/${buildGuest(kernel).split('/').at(-1)}`;
      await withLab({ kernel, deadlineSeconds: 490 }, async lab => {
        await lab.start(
          `cd /checkout && exec node test/lab/inside/told-vms.ts /tmp/told.json ${bare} ${managed}`,
          '/tmp/agent.log',
        );
        await lab.until('test -e /tmp/told.json || { cat /tmp/agent.log; exit 1; }', 150);
        t.regex((await told(lab)).sources['kvm'] ?? '', /KVM is not loaded/);
        await lab.run('modprobe kvm_amd');
        await eventually(lab, 'the source runs', 40, now => now.sources['kvm'] === 'running');

        await lab.start(
          `mkdir /sys/fs/cgroup/bare && echo $$ >/sys/fs/cgroup/bare/cgroup.procs &&
           exec sh ${scripts}/run-guest.sh ${folder} kvm bare ${bare} /tmp/bare.qmp ticking,200+cpuid,${cpuids} -name debug-threads=off`,
          '/tmp/bare.log',
        );
        await lab.run(
          `truncate -s 16M /tmp/disk &&
           sh ${scripts}/libvirt-guest.sh ${folder} kvm managed ${managed} ticking,200+writing,${blocks},${kb} /tmp/disk`,
          // On a busy machine a minute is not enough, beside another guest.
          { timeoutSeconds: 120 },
        );
        await lab.until('grep -q ^TICK /tmp/bare.log && grep -q TICK /tmp/managed.log', 150);

        const both = await eventually(lab, 'exits of both', 40, ({ vms }) =>
          [bare, managed].every(
            id => indexes(vms[id]).length === 2 && sum(vms[id], 'sculptor.vcpu.exits', 'hlt') > 50,
          ),
        );
        for (const id of [bare, managed]) {
          const vm = both.vms[id];
          t.deepEqual(indexes(vm), [0, 1]);
          t.true(sum(vm, 'sculptor.vcpu.exits', 'io') > 0, 'its console');
          t.true(sum(vm, 'sculptor.vcpu.exits', 'nested_page_fault') > 0, 'its memory');
          const [away, ran, late, wakeups] = [
            'sculptor.vcpu.exit.time',
            'sculptor.task.cpu.time',
            'sculptor.vcpu.wakeup.time',
            'sculptor.vcpu.wakeups',
          ].map(metric => sum(vm, metric));
          t.log(`${away} s away of ${ran} s on a CPU; ${late} s late in ${wakeups} wake-ups`);
          // A boot is full of exits, and nothing that is emulated is entered within 10 µs.
          t.true((away ?? 0) > 0.1 * (ran ?? 0));
          t.true(sum(vm, 'sculptor.vcpu.halt.time') > 1);
          t.true((late ?? 0) > 10e-6 * (wakeups ?? 0));
        }
        t.is(both.vms[managed]?.placement?.owner, 'libvirt');
        t.is(both.vms[bare]?.placement?.owner, 'none');
        t.true(both.vms[managed]?.placement?.tasks.some(task => task.name === 'CPU 1/KVM'));
        t.false(both.vms[bare]?.placement?.tasks.some(task => task.name.startsWith('CPU')));

        // libvirt alone has the monitor; what it says of the drive by another of its calls is what the agent tells.
        await lab.until('grep -q ^WROTE /tmp/managed.log', 60);
        const drives = async () => (await told(lab)).vms[managed]?.drives ?? {};
        await eventually(
          lab,
          'what it wrote, and the flush',
          40,
          ({ vms }) =>
            vms[managed]?.drives['operations vda write'] === blocks &&
            Number(vms[managed]?.drives['operations vda flush']) > 0,
        );
        const byLibvirt = await lab.run('virsh domblkstat managed vda');
        const count = (name: string) =>
          Number(new RegExp(`^vda ${name} (\\d+)$`, 'm').exec(byLibvirt)?.[1]);
        const toldOf = await drives();
        t.log(`of its drive: ${JSON.stringify(toldOf)}`);
        t.deepEqual(toldOf, {
          'io vda read': count('rd_bytes'),
          'io vda write': blocks * kb * 1024,
          'operations vda read': count('rd_req'),
          'operations vda write': count('wr_req'),
          'operations vda flush': count('flush_operations'),
          'time vda read': count('rd_total_times') / 1e9,
          'time vda write': count('wr_total_times') / 1e9,
          'time vda flush': count('flush_total_times') / 1e9,
        });

        await lab.until('grep -q ^CPUID /tmp/bare.log', 120);
        const alone = (await told(lab)).vms[bare];
        const beside = await besideHog(lab, alone);

        // Stopped, it exits no more: the agent's totals are those that KVM itself keeps.
        const stoppedAt = await say(lab, 'stop');
        const stopped = await standing(lab);
        const tgid = stopped?.placement?.tasks[0]?.tgid;
        const own = async (name: string) =>
          Number(await lab.run(`cat /sys/kernel/debug/kvm/${tgid}-*/${name}`));
        const [exits, halts] = [await own('exits'), await own('halt_exits')];
        t.log(`exits: ${sum(stopped, 'sculptor.vcpu.exits')} told, ${exits} by KVM's own count`);
        t.true(Math.abs(sum(stopped, 'sculptor.vcpu.exits') / exits - 1) < 0.02);
        t.true(Math.abs(sum(stopped, 'sculptor.vcpu.exits', 'hlt') / halts - 1) < 0.02);

        // Beside those of its kernel's own, which the other guest's executes as well.
        const took = Number(
          await lab.run(`sed -n 's/^CPUID [0-9]* times in \\(.*\\) s.*/\\1/p' /tmp/bare.log`),
        );
        const [asked, ofOther] = [stopped, both.vms[managed]].map(vm =>
          sum(vm, 'sculptor.vcpu.exits', 'cpuid'),
        );
        const handled = sum(stopped, 'sculptor.vcpu.exit.time', 'cpuid');
        t.log(`${asked} exits for cpuid, ${ofOther} of the other; ${handled} s of ${took} s`);
        // Seen to be the very number.
        t.true(Math.abs((asked ?? 0) - (ofOther ?? 0) - cpuids) < 0.02 * cpuids);
        // What it took is within the loop's own time, a third to a half of it; those of its kernel's start are some more. The rest is the
        // emulation of the way out of the guest and into it, and the hooks.
        t.true(handled > 0.15 * took && handled < 1.1 * took, `${handled} of ${took} s`);
        // Neither halts nor waits are in it: all else the thread does on a CPU.
        const [away, ran] = ['sculptor.vcpu.exit.time', 'sculptor.task.cpu.time'].map(metric =>
          sum(stopped, metric),
        );
        t.log(`away from the guest for ${away} s of ${ran} s on a CPU`);
        t.true((away ?? 0) > 0.1 * (ran ?? 0) && (away ?? 0) < (ran ?? 0));

        // One in twenty finds an interrupt waiting and does not halt after all; nearly all others end with an entry.
        const [ends, wakeups] = [
          sum(stopped, 'sculptor.vcpu.halts'),
          sum(stopped, 'sculptor.vcpu.wakeups'),
        ];
        t.log(
          `${halts} times the guest had nothing to do; ${ends} halts told, and ${wakeups} entries after one`,
        );
        t.true(ends <= halts && ends > 0.9 * halts);
        t.true(wakeups <= ends && wakeups > 0.95 * ends);
        // KVM's own account of them has in it what the thread then waited for a CPU, which is told as a part of the delay.
        const times = ['halt_wait_ns', 'halt_poll_success_ns', 'halt_poll_fail_ns'];
        const ns = (await Promise.all(times.map(own))).reduce((total, each) => total + each, 0);
        const [halted, delayed] = [
          sum(stopped, 'sculptor.vcpu.halt.time'),
          sum(stopped, 'sculptor.vcpu.wakeup.time'),
        ];
        t.log(
          `halted ${ns / 1e9} s by KVM's own account; told: ${halted} s, and ${delayed} s late`,
        );
        t.true(halted < 1.02 * (ns / 1e9) && halted + delayed > 0.98 * (ns / 1e9));
        // What KVM takes for a part of the halt is that wait; an entry itself takes some tenth of a millisecond.
        t.true(Math.abs(delayed / (ns / 1e9 - halted) - 1) < 0.15);
        t.true(
          sum(alone, 'sculptor.vcpu.wakeup.time') < 0.25 * sum(alone, 'sculptor.vcpu.halt.time'),
          'a guest that ticks is idle nearly all of the time',
        );

        // What of that wait was after a halt, by the scheduler's account of the threads. The rest is of those that had the CPU when it was
        // taken from them, or waited for QEMU's lock.
        const [late, waited] = ['sculptor.vcpu.wakeup.time', 'sculptor.task.runqueue.wait'].map(
          metric => sum(beside, metric) - sum(alone, metric),
        );
        t.log(`beside the hog ${late} s late after a halt, of ${waited} s that the threads waited`);
        t.true((waited ?? 0) > 5);
        t.true((late ?? 0) > 0.7 * (waited ?? 0) && (late ?? 0) < 1.1 * (waited ?? 0));

        // A VM that is paused is in an exit all the while, and so is each of its two vCPUs. It goes on for a second or two. Late it is not,
        // though the signal by which it is paused ends a halt.
        const resumedAt = await say(lab, 'cont');
        await say(lab, 'stop');
        const again = await standing(lab);
        const [exitTime, exitsLate] = ['sculptor.vcpu.exit.time', 'sculptor.vcpu.wakeup.time'].map(
          metric => sum(again, metric) - sum(stopped, metric),
        );
        const paused = resumedAt - stoppedAt;
        t.log(`paused for ${paused} s: ${exitTime} s in exits, and ${exitsLate} s late`);
        t.true((exitTime ?? 0) > 0.98 * 2 * paused && (exitTime ?? 0) < 1.1 * 2 * paused);
        t.true((exitsLate ?? Infinity) < 0.1 * paused);

        const { lost } = await told(lab);
        t.is(lost['kvm_memory'], 0);
        t.is(lost['kvm_recursion'], 0);
      });
    },
  );
}
