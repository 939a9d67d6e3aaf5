import test from 'ava';
import { capabilitiesOf, usesBpftrace } from '../../src/agent/capabilities.ts';
import { agentConfigSchema } from '../../src/contract/config.ts';
import { makeTree } from '../linux/tree.ts';

const config = agentConfigSchema.parse;

test('what an agent needs is what its sources need, as they are selected and configured', t => {
  t.deepEqual(capabilitiesOf(config({}), true), ['CAP_BPF', 'CAP_PERFMON', 'CAP_SYS_PTRACE']);
  const taps = ['container.network.io', 'sculptor.network.interface.*'];
  const without = config({ metrics: { include: [], exclude: taps } });
  t.deepEqual(capabilitiesOf(without, true), ['CAP_BPF', 'CAP_PERFMON']);
  const outliers = config({ profile: 'minimal', outliers: { aboveSeconds: 0.1 } });
  t.deepEqual(capabilitiesOf(outliers, true), ['CAP_BPF', 'CAP_PERFMON', 'CAP_SYSLOG']);
});

test('where KVM is loaded its metrics take CAP_SYS_ADMIN, and what leaves them out does not keep it', t => {
  const { sys } = makeTree(t, { 'sys/module/kvm_amd/': '' });
  const of = (more: object, on = sys) => capabilitiesOf(config(more), true, on);
  const exclude = ['sculptor.vcpu.exits', 'sculptor.vcpu.exit.*', 'sculptor.vcpu.halts'];
  const exits = [...exclude, 'sculptor.vcpu.halt.*', 'sculptor.vcpu.wakeups'];
  const all = [...exits, 'sculptor.vcpu.wakeup.*'];
  t.true(of({}).includes('CAP_SYS_ADMIN'));
  t.true(of({ metrics: { exclude: exits } }).includes('CAP_SYS_ADMIN'), 'one of them is left');
  t.false(of({ metrics: { exclude: all } }).includes('CAP_SYS_ADMIN'));
  t.false(of({ profile: 'minimal' }).includes('CAP_SYS_ADMIN'));
  t.false(of({}, `${sys}/nowhere`).includes('CAP_SYS_ADMIN'));
});

test('the gate asks for who holds a context id, and for a port that is not everybody’s', t => {
  const base = { profile: 'minimal' };
  const of = (gate: object) => capabilitiesOf(config({ ...base, gate }), true);
  const guests = [{ address: '10.0.0.2', instance: 'vm' }];
  t.deepEqual(of({ vsock: { port: 4317 } }), [
    'CAP_BPF',
    'CAP_DAC_READ_SEARCH',
    'CAP_PERFMON',
    'CAP_SYS_PTRACE',
  ]);
  t.deepEqual(of({ vsock: { port: 4317, discover: false } }), ['CAP_BPF', 'CAP_PERFMON']);
  t.deepEqual(of({ tcp: { host: '10.0.0.1', port: 317, guests } }), [
    'CAP_BPF',
    'CAP_NET_BIND_SERVICE',
    'CAP_PERFMON',
  ]);
});

test('a host without a machine id is named by its UUID, which is for root only', t => {
  t.deepEqual(capabilitiesOf(config({ profile: 'minimal' }), false), [
    'CAP_BPF',
    'CAP_DAC_READ_SEARCH',
    'CAP_PERFMON',
  ]);
});

test('bpftrace is used as a driver, and for custom probes', t => {
  t.false(usesBpftrace(config({})));
  t.true(usesBpftrace(config({ driver: 'bpftrace' })));
  t.true(usesBpftrace(config({ customProbes: { directory: '/etc/sculptor/probes' } })));
});
