/** Capabilities that something here can use, by bit (capability.h), and what each is for. */
const used = [
  { bit: 39, name: 'CAP_BPF', forWhat: 'loading the probes' },
  { bit: 38, name: 'CAP_PERFMON', forWhat: 'attaching the probes' },
  { bit: 23, name: 'CAP_SYS_NICE', forWhat: 'moving threads of other users' },
  { bit: 1, name: 'CAP_DAC_OVERRIDE', forWhat: 'writing cgroup files' },
  { bit: 2, name: 'CAP_DAC_READ_SEARCH', forWhat: "reading other users' /proc" },
] as const;

export type UsedCapability = (typeof used)[number];

/** Those of the capabilities that matter here, by whether the effective set (CapEff, hexadecimal) has them. */
export function decodeCapabilities(capEff: string): {
  held: UsedCapability[];
  absent: UsedCapability[];
} {
  const bits = BigInt(`0x${/^[0-9a-f]+$/i.test(capEff) ? capEff : '0'}`);
  const has = ({ bit }: UsedCapability) => ((bits >> BigInt(bit)) & 1n) === 1n;
  // CAP_DAC_OVERRIDE includes what CAP_DAC_READ_SEARCH gives; CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON.
  const implied = ({ name }: UsedCapability) =>
    (name === 'CAP_DAC_READ_SEARCH' && ((bits >> 1n) & 1n) === 1n) ||
    ((name === 'CAP_BPF' || name === 'CAP_PERFMON') && ((bits >> 21n) & 1n) === 1n);
  return {
    held: used.filter(c => has(c) || implied(c)),
    absent: used.filter(c => !has(c) && !implied(c)),
  };
}
