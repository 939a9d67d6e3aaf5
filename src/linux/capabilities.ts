import { KernelInterfaceError } from '../contract/errors.ts';
import { readText } from './read-file.ts';
import type { Roots } from './roots.ts';

/** Capabilities that something here can use, by bit. @see capabilities(7) */
const bits = {
  CAP_DAC_OVERRIDE: 1,
  CAP_DAC_READ_SEARCH: 2,
  CAP_SETGID: 6,
  CAP_SETUID: 7,
  CAP_SETPCAP: 8,
  CAP_NET_BIND_SERVICE: 10,
  CAP_SYS_PTRACE: 19,
  CAP_SYS_ADMIN: 21,
  CAP_SYS_NICE: 23,
  CAP_SYSLOG: 34,
  CAP_PERFMON: 38,
  CAP_BPF: 39,
} as const;

export type Capability = keyof typeof bits;

/** Those that include what another gives. */
const including: Partial<Record<Capability, Capability>> = {
  CAP_BPF: 'CAP_SYS_ADMIN',
  CAP_PERFMON: 'CAP_SYS_ADMIN',
  CAP_DAC_READ_SEARCH: 'CAP_DAC_OVERRIDE',
};

/** What loading and attaching any BPF program of the agent needs. */
export const bpfCapabilities: readonly Capability[] = ['CAP_BPF', 'CAP_PERFMON'];

/** A set as a number: bit n is capability n. */
export function setOf(capabilities: readonly Capability[]): bigint {
  return capabilities.reduce((set, one) => set | (1n << BigInt(bits[one])), 0n);
}

/** Whether a set has this very capability. */
export function has(set: bigint, capability: Capability): boolean {
  return (set & setOf([capability])) !== 0n;
}

/** Of these, those that a set gives neither by themselves nor by one that includes them. */
export function lacking(set: bigint, capabilities: readonly Capability[]): Capability[] {
  return capabilities.filter(one => {
    const wider = including[one];
    return !has(set, one) && !(wider && has(set, wider));
  });
}

/** Those of a set that give these, each by itself or else by one that includes it. */
export function granted(set: bigint, capabilities: readonly Capability[]): Capability[] {
  const found = capabilities.flatMap(one => {
    const wider = including[one];
    if (has(set, one)) return [one];
    return wider && has(set, wider) ? [wider] : [];
  });
  return [...new Set(found)];
}

/** What this process may do, as the kernel tells it. */
export type OwnPrivileges = {
  readonly effective: bigint;
  readonly permitted: bigint;
  readonly bounding: bigint;
  readonly noNewPrivileges: boolean;
};

/** Null where the kernel does not tell it. */
export function readOwnPrivileges(roots: Roots): OwnPrivileges | null {
  const status = readText(`${roots.proc}/self/status`) ?? '';
  const setAt = (key: string): bigint | null => {
    const set = new RegExp(`^${key}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1];
    return set === undefined ? null : BigInt(`0x${set}`);
  };
  const effective = setAt('CapEff');
  if (effective === null) return null;
  return {
    effective,
    permitted: setAt('CapPrm') ?? effective,
    bounding: setAt('CapBnd') ?? effective,
    noNewPrivileges: /^NoNewPrivs:\s*1$/m.test(status),
  };
}

/** Of these, those that this process does not have; none where the kernel does not tell it. */
export function ownLacking(roots: Roots, capabilities: readonly Capability[]): Capability[] {
  if (capabilities.length === 0) return [];
  const own = readOwnPrivileges(roots);
  return own === null ? [] : lacking(own.effective, capabilities);
}

/** @throws KernelInterfaceError KERNEL_PRIVILEGE which names those that this process lacks */
export function mustHave(roots: Roots, capabilities: readonly Capability[] = []): void {
  const absent = ownLacking(roots, capabilities);
  if (absent.length === 0) return;
  throw new KernelInterfaceError(
    'KERNEL_PRIVILEGE',
    `this process has no ${absent.join(' and no ')}, which it needs`,
    { absent },
  );
}
