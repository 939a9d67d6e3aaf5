import test, { type ExecutionContext } from 'ava';
import { startVdiskSource } from '../../../src/agent/block/vdisk-source.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import type { SourceContext } from '../../../src/agent/sources/source.ts';
import { readCgroupLayout } from '../../../src/linux/cgroups.ts';
import { makeTree, mounts, taskFiles } from '../../linux/tree.ts';
import { makeFakeVirsh, oneDrive } from '../../support/fake-virsh.ts';
import { eventually } from '../../support/scene.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

const booted = 1_000_000;
const oddName = `we b'=x, é: "q"\nDomain: 'web0'`;
const uuidOf = (i: number) => `1b671a64-40d5-491e-99b0-${`${i}`.padStart(12, '0')}`;
const charmonitor = [
  ...['-chardev', 'socket,id=charmonitor,fd=31,server=on,wait=off'],
  ...['-mon', 'chardev=charmonitor,id=monitor,mode=control'],
];

/** VMs of libvirt's with these names, each 5 s younger than the agent; the last has a second monitor. */
function start(t: ExecutionContext, names: readonly string[], virshIsHere = true) {
  const files = names.map((name, i) => ({
    [`cgroup/vm${i}/cgroup.procs`]: `${50 + i}`,
    ...taskFiles(50 + i, {
      cmdline: [
        '/usr/bin/qemu-system-x86_64',
        ...['-name', `guest=${name.replaceAll(',', ',,')},debug-threads=on`],
        ...['-uuid', uuidOf(i), ...charmonitor],
        ...(i > 0 && i === names.length - 1 ? ['-qmp', 'unix:/run/own.qmp'] : []),
      ],
      startTicks: 100_500,
    }),
  }));
  const tree = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'proc/uptime': '1000.25 1900.10',
    'cgroup/cgroup.controllers': 'cpu',
    ...Object.assign({}, ...files),
  });
  const clock = steppedClock(booted + 1000);
  const virsh = makeFakeVirsh(t);
  const said: string[] = [];
  const asked: string[] = [];
  const context = {
    config: { detailIntervalSeconds: 10 },
    roots: tree,
    layout: readCgroupLayout(tree),
    clock,
    say: (_level: string, text: string) => void said.push(text),
  } as unknown as SourceContext;
  const source = startVdiskSource(
    context,
    async path => {
      asked.push(path.slice(tree.proc.length));
      return [];
    },
    () => (virshIsHere ? virsh.path : null),
  );
  t.teardown(source.stop);
  const living = names.map(
    (name, i) =>
      ({
        instance: { id: uuidOf(i), kind: 'vm', name },
        path: `/vm${i}`,
        start: booted + 1005,
        members: new Map([[i, `/vm${i}`]]),
      }) as unknown as LivingInstance,
  );
  source.read(living);
  const operations = (i: number) =>
    source
      .samples(living[i] as LivingInstance)
      .filter(({ metric }) => metric === 'sculptor.vdisk.operations')
      .map(({ attributes, value }) => [...Object.values(attributes ?? {}), value].join(' '));
  const unknown = () =>
    Object.fromEntries(
      source.host().map(({ attributes, value }) => [attributes?.['sculptor.reason'], value]),
    );
  /** Lets time pass until what is told holds. */
  const until = (what: string, holds: () => boolean) =>
    eventually(what, 30, () => {
      if (holds()) return true;
      clock.step(1);
      return null;
    });
  return { tree, source, virsh, said, asked, clock, operations, unknown, until };
}

test('drives of VMs whose monitor is libvirt’s alone are asked of libvirt; a monitor of their own goes first', async t => {
  const { virsh, asked, operations, unknown, until } = start(t, ['web', oddName, 'own']);
  virsh.answer({
    [uuidOf(0)]: oneDrive('web', [7, 1, 2]),
    [uuidOf(1)]: oneDrive(oddName, [9]),
    [uuidOf(2)]: oneDrive('own', [5]),
  });
  await until('both are told', () => operations(0).length > 0 && operations(1).length > 0);
  t.deepEqual(operations(0), ['vda read 7', 'vda write 1', 'vda flush 2']);
  t.deepEqual(operations(1), ['vda read 9']);
  t.deepEqual(operations(2), []);
  t.deepEqual(new Set(asked), new Set(['/52/root/run/own.qmp']));
  t.false(virsh.runs().some(run => run.includes(uuidOf(2))));
  t.deepEqual(new Set(Object.values(unknown())), new Set([0]));
});

test('series do not fall when a domain is started anew', async t => {
  const { virsh, operations, until } = start(t, ['web']);
  virsh.answer({ [uuidOf(0)]: oneDrive('web', [100]) });
  await until('it is told', () => operations(0)[0] === 'vda read 100');
  virsh.answer({ [uuidOf(0)]: oneDrive('web', [30]) });
  await until('it is asked again', () => operations(0)[0] !== 'vda read 100');
  t.deepEqual(operations(0), ['vda read 130']);
});

test('a domain that libvirt does not have is counted with the reason, asked ever more seldom, and said', async t => {
  const { source, virsh, said, unknown, clock, until } = start(t, ['web']);
  const before = clock.monotonicSeconds();
  await until('it is said', () => said.length > 0);
  t.regex(
    said[0] ?? '',
    /web: its drives are not told: libvirt \(qemu:\/\/\/system\) has no domain/,
  );
  t.is(unknown()['libvirt_unknown'], 1);
  t.is(source.lost()['unanswered'], 0);
  t.is(virsh.runs().length, 4);
  // After 2, 4 and 8 intervals of 10 s.
  t.true(clock.monotonicSeconds() - before >= 140);
});

test('without virsh it is said that it could be asked, and nothing is started', async t => {
  const { virsh, said, unknown, until } = start(t, ['web'], false);
  await until('it is said', () => said.length > 0);
  t.regex(said[0] ?? '', /apt-get install libvirt-clients\); else: .*one client, libvirt/);
  t.is(unknown()['no_qmp'], 1);
  t.deepEqual(virsh.runs(), []);
});

test('a libvirt that is silent is counted, and what was known stands', async t => {
  const { source, virsh, operations, unknown, until } = start(t, ['web']);
  virsh.answer({ [uuidOf(0)]: oneDrive('web', [100]) });
  await until('it is told', () => operations(0).length > 0);
  virsh.answer({ [uuidOf(0)]: "Domain: 'web'\n  block.count=1\n  block.0.name=vda\n" });
  await until('it is counted', () => unknown()['libvirt_silent'] === 1);
  t.true(Number(source.lost()['unanswered']) >= 1);
  t.deepEqual(operations(0), ['vda read 100']);
});

test('an answer that came after its QEMU had ended is nobody’s', async t => {
  const { source, tree, virsh, operations, unknown, until } = start(t, ['web']);
  virsh.answer({ [uuidOf(0)]: oneDrive('web', [100]) });
  await until('it is told', () => operations(0).length > 0);
  virsh.answer({ [uuidOf(0)]: `late:${oneDrive('web', [30])}` });
  const runs = virsh.runs().length;
  await until('it is asked', () => virsh.runs().length > runs);
  tree.write(taskFiles(50, { startTicks: 200_000, cmdline: ['/usr/bin/other'] }));
  await until('the run has ended', () => unknown()['libvirt_silent'] === 1);
  t.deepEqual(operations(0), ['vda read 100']);
  t.true(Number(source.lost()['unanswered']) >= 1);
});
