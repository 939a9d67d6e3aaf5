import { capabilitiesOf, usesBpftrace } from '../agent/capabilities.ts';
import type { AgentConfig } from '../contract/config.ts';
import { ConfigError } from '../contract/errors.ts';
import { accountOf } from './account.ts';
import type { Wanted } from './least-privilege.ts';

/**
 * What `sculpt agent` of this configuration keeps, and whom it becomes; null: it keeps everything, since bpftrace runs as root
 * only. `user`: in place of that of the configuration. `uid`: who this process is.
 * @throws ConfigError CONFIG_INVALID
 */
export function privilegesOf(
  agent: AgentConfig,
  user = agent.user,
  uid = process.getuid?.() ?? 0,
): Wanted | null {
  const underBpftrace = usesBpftrace(agent);
  if (underBpftrace && user !== undefined)
    throw new ConfigError(
      'CONFIG_INVALID',
      `agent.user: got ${JSON.stringify(user)}, wanted none with agent.driver: bpftrace or agent.customProbes: bpftrace runs as root only`,
    );
  if (underBpftrace) return null;
  // Who it is without becoming anybody, as under a service manager, counts as well: files of root's are not that user's.
  const runsAs = user ?? (uid === 0 ? undefined : uid);
  return {
    capabilities: capabilitiesOf(runsAs === undefined ? agent : { ...agent, user: runsAs }),
    account: user === undefined ? null : accountOf(user),
  };
}
