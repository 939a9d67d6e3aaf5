import type { Isa } from './kvm.ts';

/** First slot of SVM's codes from 0x400 on, and the slot of all codes that have none: as in bpf/kvm.h. */
const highExits = 0xa8;

/** AMD APM volume 2, appendix C; by the words of Intel's table where it is the same thing. */
const svm: Readonly<Record<number, string>> = {
  96: 'external_interrupt',
  97: 'nmi',
  98: 'smi',
  99: 'init',
  100: 'interrupt_window',
  101: 'cr_access',
  110: 'rdtsc',
  111: 'rdpmc',
  114: 'cpuid',
  116: 'iret',
  118: 'invd',
  119: 'pause',
  120: 'hlt',
  121: 'invlpg',
  123: 'io',
  124: 'msr',
  125: 'task_switch',
  127: 'shutdown',
  128: 'nested',
  129: 'hypercall',
  130: 'nested',
  131: 'nested',
  132: 'nested',
  133: 'nested',
  135: 'rdtscp',
  137: 'wbinvd',
  138: 'monitor',
  139: 'mwait',
  140: 'mwait',
  141: 'xsetbv',
  162: 'invpcid',
  165: 'bus_lock',
  // With the Idle HLT intercept, which Linux uses from 6.15 on: no exit where an interrupt is pending already.
  166: 'hlt',
  [highExits]: 'nested_page_fault',
  [highExits + 1]: 'apic',
  [highExits + 2]: 'apic',
  [highExits + 3]: 'vmgexit',
};

/** Intel SDM volume 3, appendix C: basic exit reasons. */
const vmx: Readonly<Record<number, string>> = {
  0: 'exception',
  1: 'external_interrupt',
  2: 'shutdown',
  3: 'init',
  7: 'interrupt_window',
  8: 'nmi_window',
  9: 'task_switch',
  10: 'cpuid',
  12: 'hlt',
  13: 'invd',
  14: 'invlpg',
  15: 'rdpmc',
  16: 'rdtsc',
  18: 'hypercall',
  19: 'nested',
  20: 'nested',
  21: 'nested',
  22: 'nested',
  23: 'nested',
  24: 'nested',
  25: 'nested',
  26: 'nested',
  27: 'nested',
  28: 'cr_access',
  29: 'dr_access',
  30: 'io',
  31: 'msr',
  32: 'msr',
  33: 'failed_entry',
  34: 'failed_entry',
  36: 'mwait',
  39: 'monitor',
  40: 'pause',
  41: 'failed_entry',
  43: 'apic',
  44: 'apic',
  45: 'apic',
  48: 'nested_page_fault',
  49: 'mmio',
  50: 'nested',
  51: 'rdtscp',
  52: 'preemption_timer',
  53: 'nested',
  54: 'wbinvd',
  55: 'xsetbv',
  56: 'apic',
  58: 'invpcid',
  74: 'bus_lock',
};

/**
 * Why a guest was left, by the slot that the kernel's side counts it in: at most some thirty words, the same for what is the
 * same on both architectures; `other` for what has none.
 */
export function exitReason(isa: Isa, slot: number): string {
  if (isa === 'vmx') return vmx[slot] ?? 'other';
  if (slot < 0x20) return 'cr_access';
  if (slot < 0x40) return 'dr_access';
  if (slot < 0x60) return 'exception';
  return svm[slot] ?? 'other';
}
