import { existsSync } from 'node:fs';
import type { AgentConfig } from '../contract/config.ts';
import { bpfCapabilities, type Capability } from '../linux/capabilities.ts';
import { hostRoots } from '../linux/roots.ts';
import { createLiveConfig } from './live-config.ts';
import { sourceKinds } from './sources/sources.ts';

/** Ports below are for who has CAP_NET_BIND_SERVICE. */
const firstOpenPort = 1024;

/**
 * Whether anything of this configuration runs under bpftrace, which asks for root and is given all there is: what its
 * scripts need nobody knows.
 */
export function usesBpftrace({ driver, customProbes }: AgentConfig): boolean {
  return driver === 'bpftrace' || customProbes.directory !== undefined;
}

/**
 * What an agent of this configuration needs on this host. What is selected while it runs, or is needed though nothing of it
 * is selected, and takes more, is refused then. `sys`: where sysfs is.
 */
export function capabilitiesOf(
  config: AgentConfig,
  hasMachineId = existsSync('/etc/machine-id'),
  sys = hostRoots.sys,
): Capability[] {
  const { selection } = createLiveConfig(config);
  const { vsock, tcp } = config.gate;
  const wanted = sourceKinds
    .filter(({ name }) => selection.tellsOf(name))
    .flatMap(({ needs = [], gains }): Capability[] => [...needs, ...(gains?.(config, sys) ?? [])]);
  return [
    ...new Set<Capability>([
      ...bpfCapabilities,
      ...wanted,
      // Which QEMU, of whichever user, holds the device of a context id.
      ...(vsock?.discover ? (['CAP_SYS_PTRACE', 'CAP_DAC_READ_SEARCH'] as const) : []),
      ...(tcp && tcp.port < firstOpenPort ? (['CAP_NET_BIND_SERVICE'] as const) : []),
      // The UUID of the machine, by which the host is named then, is root's to read.
      ...(hasMachineId ? [] : (['CAP_DAC_READ_SEARCH'] as const)),
    ]),
  ].sort();
}
