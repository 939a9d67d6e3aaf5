import test from 'ava';
import type { VcpuTotals } from '../../../src/agent/probes/kvm.ts';
import type { SourceContext } from '../../../src/agent/sources/source.ts';
import { vcpuSamples } from '../../../src/agent/vms/kvm-source.ts';
import { stealSource } from '../../../src/agent/vms/steal-source.ts';
import { attributesOf } from '../../../src/otlp/sample.ts';
import { makeTree } from '../../linux/tree.ts';

const totals: VcpuTotals = {
  cgroupId: 1,
  tid: 100,
  tgid: 50,
  startTicks: 7,
  index: 0,
  isa: 'svm',
  haltNs: 2e9,
  halts: 3,
  wakeupNs: 5e8,
  wakeups: 2,
  exits: new Map([
    [0x78, { count: 5, handledNs: 1e9 }],
    [0xa9, { count: 1, handledNs: 1e8 }],
    [0xaa, { count: 2, handledNs: 2e8 }],
  ]),
};

test('exits of one word are one series, with how long they took to handle', t => {
  const samples = vcpuSamples(totals, 3, 1000);
  const told = samples.map(sample => [
    sample.metric,
    attributesOf(sample)['sculptor.vcpu.exit_reason'],
    sample.value,
  ]);
  t.deepEqual(
    told.slice(0, 4),
    [
      ['sculptor.vcpu.exits', 'hlt', 5],
      ['sculptor.vcpu.exit.time', 'hlt', 1],
      ['sculptor.vcpu.exits', 'apic', 3],
      ['sculptor.vcpu.exit.time', 'apic', 0.3],
    ].map(([metric, reason, value]) => [metric, reason, value]),
  );
  t.deepEqual(told.slice(4), [
    ['sculptor.vcpu.halts', undefined, 3],
    ['sculptor.vcpu.halt.time', undefined, 2],
    ['sculptor.vcpu.wakeups', undefined, 2],
    ['sculptor.vcpu.wakeup.time', undefined, 0.5],
  ]);
  t.true(samples.every(sample => sample.task === '100@7' && sample.start === 1000));
  t.is(samples[0]?.attributes?.['sculptor.vcpu.index'], 3);
  t.is(
    new Set(samples.map(({ metric, more }) => metric + JSON.stringify(more))).size,
    samples.length,
  );
});

test('a guest tells what was kept from each of its vCPUs since then; another machine nothing', t => {
  const stat = (steal: number) => `cpu0 1 1 1 500 0 0 0 ${steal}\ncpu1 1 1 1 500 0 0 0 7`;
  const roots = makeTree(t, {
    'proc/cpuinfo': 'processor : 0\nflags\t\t: fpu hypervisor svm',
    'proc/stat': stat(50),
  });
  const source = stealSource.start({ roots } as unknown as SourceContext);
  source.read([]);
  roots.write({ 'proc/stat': stat(75) });
  source.read([]);
  t.deepEqual(source.host(), [
    { metric: 'sculptor.vcpu.steal', attributes: { 'sculptor.vcpu.index': 0 }, value: 0.25 },
    { metric: 'sculptor.vcpu.steal', attributes: { 'sculptor.vcpu.index': 1 }, value: 0 },
  ]);
  roots.write({ 'proc/cpuinfo': 'flags : fpu svm' });
  const host = stealSource.start({ roots } as unknown as SourceContext);
  host.read([]);
  t.deepEqual(host.host(), []);
});
