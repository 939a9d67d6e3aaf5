import test from 'ava';
import type { LivingInstance } from '../../../src/agent/instances/instances.ts';
import type { SourceContext } from '../../../src/agent/sources/source.ts';
import { guestSource } from '../../../src/agent/vms/guest-source.ts';

const vm = { instance: { id: 'vm', kind: 'vm' } } as LivingInstance;

test('a VM tells what its guest says of its vCPUs, until the guest is silent; nobody else does', t => {
  let now = 1010;
  const source = guestSource.start({
    guests: (id: string) =>
      id === 'vm'
        ? new Map(
            [1, 2].map(index => [
              index,
              { start: 1000, at: 1010, waitSeconds: 3, stealSeconds: 2 },
            ]),
          )
        : null,
    // The host knows of no vCPU 2.
    vcpus: { of: () => new Map([[77, 1]]) },
    clock: { unixSeconds: () => now },
  } as unknown as SourceContext);
  const attributes = { 'sculptor.vcpu.index': 1 };
  t.deepEqual(source.samples(vm), [
    { metric: 'sculptor.vcpu.guest.runqueue.wait', attributes, start: 1000, value: 3 },
    { metric: 'sculptor.vcpu.guest.steal', attributes, start: 1000, value: 2 },
  ]);
  t.deepEqual(source.samples({ instance: { id: 'vm', kind: 'cgroup' } } as LivingInstance), []);
  t.deepEqual(source.samples({ instance: { id: 'other', kind: 'vm' } } as LivingInstance), []);
  now = 1071;
  t.deepEqual(source.samples(vm), []);
});
