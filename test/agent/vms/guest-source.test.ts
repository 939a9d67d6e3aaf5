import test from 'ava';
import type { VcpuView } from '../../../src/agent/gate/guest-view.ts';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import type { SourceContext } from '../../../src/agent/sources/source.ts';
import { guestSource } from '../../../src/agent/vms/guest-source.ts';

const lifeOf = (id: string, start: number, kind = 'vm') =>
  ({ instance: { id, kind }, start }) as LivingInstance;

/** What the guest of the VM `vm` said of these vCPUs; the host knows of vCPU 1 alone. */
function scene(view: Map<number, VcpuView>, began = 990) {
  const time = { now: began };
  const source = guestSource.start({
    guests: (id: string) => (id === 'vm' ? view : null),
    vcpus: { of: () => new Map([[77, 1]]) },
    clock: { unixSeconds: () => time.now },
  } as unknown as SourceContext);
  time.now = 1010;
  return { source, time };
}

const attributes = { 'sculptor.vcpu.index': 1 };
const samples = (start: number, wait: number, steal: number) => [
  { metric: 'sculptor.vcpu.guest.runqueue.wait', attributes, start, value: wait },
  { metric: 'sculptor.vcpu.guest.steal', attributes, start, value: steal },
];

test('a VM tells what its guest says of its vCPUs, until the guest is silent; nobody else does', t => {
  const said = { start: 1000, at: 1010, waitSeconds: 3, stealSeconds: 2 };
  const view = new Map([1, 2].map(index => [index, said]));
  const { source, time } = scene(view);
  const vm = lifeOf('vm', 900);
  const others = [lifeOf('vm', 900, 'cgroup'), lifeOf('other', 900)];
  source.read([...others, vm]);
  t.deepEqual(source.samples(vm), samples(1000, 3, 2));
  for (const other of others) t.deepEqual(source.samples(other), []);
  time.now = 1071;
  t.deepEqual(source.samples(vm), []);
});

test('of two lives of a VM each tells what its guest said in it', t => {
  const view = new Map([[1, { start: 1000, at: 1005, waitSeconds: 3, stealSeconds: 2 }]]);
  const { source } = scene(view);
  const [first, second] = [lifeOf('vm', 900), lifeOf('vm', 1008)];
  source.read([first]);
  view.set(1, { start: 1000, at: 1007, waitSeconds: 5, stealSeconds: 2 });
  source.forget(new Map([[7, first]]));
  t.deepEqual(source.samples(first), samples(1000, 5, 2));
  source.read([second]);
  t.deepEqual(source.samples(second), []);
  view.set(1, { start: 1000, at: 1010, waitSeconds: 6, stealSeconds: 4 });
  source.read([second]);
  t.deepEqual(source.samples(second), samples(1008, 1, 2));
  t.deepEqual(source.samples(first), samples(1000, 5, 2));
});

test('a source that is started later than the gate counts from then', t => {
  const view = new Map([[1, { start: 1000, at: 1005, waitSeconds: 3, stealSeconds: 2 }]]);
  const { source } = scene(view, 1006);
  const vm = lifeOf('vm', 900);
  source.read([vm]);
  t.deepEqual(source.samples(vm), []);
  view.set(1, { start: 1000, at: 1010, waitSeconds: 7, stealSeconds: 3 });
  source.read([vm]);
  t.deepEqual(
    source.samples(vm).map(({ value }) => value),
    [4, 1],
  );
});
