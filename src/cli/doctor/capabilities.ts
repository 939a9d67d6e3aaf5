import { type Capability, lacking } from '../../linux/capabilities.ts';

/** Capabilities that the whole loop on this host uses, and what each is for. */
const used: readonly { readonly name: Capability; readonly forWhat: string }[] = [
  { name: 'CAP_BPF', forWhat: 'loading the probes' },
  { name: 'CAP_PERFMON', forWhat: 'attaching the probes' },
  { name: 'CAP_SYS_NICE', forWhat: 'moving threads of other users' },
  { name: 'CAP_DAC_OVERRIDE', forWhat: 'writing cgroup files' },
  { name: 'CAP_DAC_READ_SEARCH', forWhat: "reading other users' /proc" },
];

/** All parts together. */
export const ofAllParts: readonly Capability[] = used.map(({ name }) => name);

export type UsedCapability = (typeof used)[number];

/** Those of the capabilities that matter here, by whether the effective set (CapEff, hexadecimal) has them. */
export function decodeCapabilities(capEff: string): {
  held: UsedCapability[];
  absent: UsedCapability[];
} {
  const set = BigInt(`0x${/^[0-9a-f]+$/i.test(capEff) ? capEff : '0'}`);
  const absent = new Set(
    lacking(
      set,
      used.map(({ name }) => name),
    ),
  );
  return {
    held: used.filter(({ name }) => !absent.has(name)),
    absent: used.filter(({ name }) => absent.has(name)),
  };
}
