import { existsSync } from 'node:fs';
import test from 'ava';
import { decodeVcpus, layout, startKvmProbe } from '../../../src/agent/probes/kvm.ts';
import { exitReason } from '../../../src/agent/probes/kvm-exits.ts';
import type { Native } from '../../../src/linux/native.ts';
import { makeTree } from '../../linux/tree.ts';
import { structLayout } from '../../support/btf-layout.ts';

const object = new URL('../../../build/bpf/kvm.bpf.o', import.meta.url).pathname;
const withObject = existsSync(object) ? test : test.skip;
if (!existsSync(object)) console.error('# skipped: build/bpf/kvm.bpf.o is not built');

const isLayout = test.macro({
  exec: (t, ours: Record<string, number>, name: string, words: Record<string, string>) => {
    const { bytes, offsets } = structLayout(object, name);
    t.is(ours['bytes'], bytes);
    for (const [word, member] of Object.entries(words)) t.is(ours[word], offsets[member], member);
    t.is(Object.keys(words).length, Object.keys(offsets).length);
  },
  title: (_, __, name) => `the decoder's layout of ${name} is the one in the object's BTF`,
});
withObject(isLayout, layout.record, 'vcpu_record', {
  cgroupId: 'cgroup_id',
  startNs: 'start_boottime_ns',
  tid: 'tid',
  tgid: 'tgid',
  index: 'index',
  isa: 'isa',
});
withObject(isLayout, layout.totals, 'vcpu_totals', {
  haltNs: 'halt_ns',
  halts: 'halts',
  wakeupNs: 'wakeup_ns',
  wakeups: 'wakeups',
  exits: 'exits',
});
withObject(isLayout, layout.exit, 'exit_totals', { count: 'count', handledNs: 'handled_ns' });

test('each record is a vCPU thread with its exits; those that never happened are left out', t => {
  const { record, totals, exit } = layout;
  const size = record.bytes + totals.bytes;
  const bytes = Buffer.alloc(2 * size + 7);
  for (const [i, at] of [0, size].entries()) {
    bytes.writeBigUInt64LE(77n, at + record.cgroupId);
    bytes.writeBigUInt64LE(1_234_567_890n, at + record.startNs);
    bytes.writeUInt32LE(100 + i, at + record.tid);
    bytes.writeUInt32LE(50, at + record.tgid);
    bytes.writeUInt32LE(i, at + record.index);
    bytes.writeUInt32LE(2 - i, at + record.isa);
    bytes.writeBigUInt64LE(9n, at + record.bytes + totals.halts);
    const hlt = at + record.bytes + totals.exits + 0x78 * exit.bytes;
    bytes.writeBigUInt64LE(5n, hlt + exit.count);
    bytes.writeBigUInt64LE(2n ** 40n, hlt + exit.handledNs);
  }
  const [first, second, ...none] = decodeVcpus(bytes);
  t.deepEqual(first, {
    cgroupId: 77,
    tid: 100,
    tgid: 50,
    startTicks: 123,
    index: 0,
    isa: 'svm',
    haltNs: 0,
    halts: 9,
    wakeupNs: 0,
    wakeups: 0,
    exits: new Map([[0x78, { count: 5, handledNs: 2 ** 40 }]]),
  });
  t.deepEqual([second?.tid, second?.isa], [101, 'vmx']);
  t.is(none.length, 0, 'what is cut off is no record');
});

test('the same thing has the same word on both architectures', t => {
  t.is(exitReason('svm', 0x78), 'hlt');
  t.is(exitReason('svm', 0xa6), 'hlt');
  t.is(exitReason('vmx', 12), 'hlt');
  t.is(exitReason('svm', 0xa2), 'invpcid');
  t.is(exitReason('vmx', 58), 'invpcid');
  t.is(exitReason('svm', 0xa5), 'bus_lock');
  t.is(exitReason('vmx', 74), 'bus_lock');
  t.is(exitReason('svm', 0xa8), 'nested_page_fault');
  t.is(exitReason('vmx', 48), 'nested_page_fault');
  t.is(exitReason('svm', 0x10), 'cr_access');
  t.is(exitReason('svm', 0x4e), 'exception');
  t.is(exitReason('svm', 175), 'other');
  t.is(exitReason('vmx', 175), 'other');
});

test('the words for exits are few', t => {
  for (const isa of ['svm', 'vmx'] as const) {
    const words = new Set(Array.from({ length: 176 }, (_, slot) => exitReason(isa, slot)));
    t.true(words.size <= 36, `${isa}: ${words.size}`);
  }
});

test('where KVM is loaded it says what it lacks, before anything is loaded', t => {
  const roots = makeTree(t, {
    'sys/module/kvm_amd/': '',
    // CAP_BPF and CAP_PERFMON.
    'proc/self/status': 'CapEff:\t000000c000000000',
  });
  t.throws(() => startKvmProbe({ native: {} as Native, roots, cgroupV1: false }), {
    code: 'KERNEL_PRIVILEGE',
    message: /no CAP_SYS_ADMIN.*where a metric of the source kvm is selected/,
  });
});

test('without KVM it says so, and that it looks again', t => {
  const roots = makeTree(t, { 'sys/module/kvm/': '' });
  t.throws(() => startKvmProbe({ native: {} as Native, roots, cgroupV1: false }), {
    code: 'KERNEL_MISSING',
    message: /KVM is not loaded .* it is looked for again/,
  });
});

test('KVM by another module is not said not to be loaded: which it is, and what is not known of it', t => {
  const roots = makeTree(t, { 'sys/module/kvm/': '', 'sys/module/kvm_pvm/': '' });
  const error = t.throws(() => startKvmProbe({ native: {} as Native, roots, cgroupV1: false }), {
    code: 'KERNEL_MISSING',
    message:
      /KVM is there by \S+\/module\/kvm_pvm: .* is not known, only where kvm_amd and kvm_intel do/,
  });
  t.notRegex(error?.message ?? '', /not loaded/);
});
