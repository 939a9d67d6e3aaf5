import test, { type ExecutionContext } from 'ava';
import { startVdiskSource } from '../../../src/agent/block/vdisk-source.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import type { SourceContext } from '../../../src/agent/sources/source.ts';
import { readCgroupLayout } from '../../../src/linux/cgroups.ts';
import { makeTree, mounts, taskFiles } from '../../linux/tree.ts';
import { steppedClock } from '../../support/stepped-clock.ts';

const libvirts = [
  ...['-chardev', 'socket,id=charmonitor,fd=31,server=on,wait=off'],
  ...['-mon', 'chardev=charmonitor,id=monitor,mode=control'],
];

const uuidOf = (i: number) => `1b671a64-40d5-491e-99b0-${`${i}`.padStart(12, '0')}`;

/** What is said of so many VMs, of which none has a monitor that may be asked, within an hour, and of one that comes then. */
async function saidOf(t: ExecutionContext, count: number, args: readonly string[]) {
  const vms = Array.from({ length: count + 1 }, (_, i) => `/vm${i}`);
  const files = vms.map((path, i) => ({
    [`cgroup${path}/cgroup.procs`]: `${100 + i}`,
    ...taskFiles(100 + i, { cmdline: ['kvm', '-uuid', uuidOf(i), ...args] }),
  }));
  const tree = makeTree(t, {
    'proc/self/mountinfo': mounts.v2,
    'cgroup/cgroup.controllers': 'cpu',
    ...Object.assign({}, ...files),
  });
  const clock = steppedClock();
  const said: string[] = [];
  const context = {
    config: { detailIntervalSeconds: 10 },
    roots: tree,
    layout: readCgroupLayout(tree),
    clock,
    say: (_level: string, text: string) => void said.push(text),
  } as unknown as SourceContext;
  const ask = () => t.fail('nobody is to be asked') as never;
  const source = startVdiskSource(context, ask, () => null);
  t.teardown(source.stop);
  const living = vms.map(
    (path, i) =>
      ({
        instance: { id: uuidOf(i), kind: 'vm', name: `web${i}` },
        path,
        members: new Map([[i, path]]),
      }) as unknown as LivingInstance,
  );
  const pass = async (seconds: number) => {
    for (let i = 0; i < seconds; i += 1) {
      clock.step(1);
      await new Promise(setImmediate);
    }
  };
  source.read(living.slice(0, count));
  await pass(3600);
  const unknown = source.host().map(({ attributes, value }) => [attributes, value]);
  t.deepEqual(unknown[1], [{ 'sculptor.reason': 'no_qmp' }, count]);
  source.read(living);
  await pass(600);
  return said;
}

test('what 200 VMs of libvirt lack is one line, with what its operator can do', async t => {
  const [first, second, ...rest] = await saidOf(t, 200, libvirts);
  t.regex(first ?? '', /^agent: web0: its drives are not told: .*one client, libvirt/);
  t.true(first?.includes('apt-get install libvirt-clients'));
  t.true(first?.includes("<qemu:arg value='-qmp'/>"));
  t.true(first?.includes('sculptor.agent.vdisks.unknown'));
  t.regex(second ?? '', /web200: .*\(and 199 others since the last\)$/);
  t.deepEqual(rest, []);
});

test('a QEMU of nobody’s lacks an argument', async t => {
  const [first] = await saidOf(t, 1, []);
  t.regex(
    first ?? '',
    /its QEMU has no QMP socket \(-qmp unix:PATH,server=on,wait=off is wanted\)/,
  );
});
