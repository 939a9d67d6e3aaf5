import { execFileSync } from 'node:child_process';
import { startScheduler } from '../../agent/cpu/scheduler.ts';
import type { AgentConfig, Config } from '../../contract/config.ts';
import { describeError, KernelInterfaceError } from '../../contract/errors.ts';
import { readOwnPrivileges } from '../../linux/capabilities.ts';
import { readCgroupLayout } from '../../linux/cgroups.ts';
import { hostRoots } from '../../linux/roots.ts';
import { loadAddonFor } from '../addon.ts';
import { privilegesOf } from '../agent-privileges.ts';
import { realClock } from '../clock.ts';
import { commandWithOnly, describeKept } from '../least-privilege.ts';
import { type Check, noScheduler, works } from './check.ts';
import type { Machine } from './machine.ts';
import { attempt, lacking } from './remedy.ts';
import { checkSources } from './source-checks.ts';

const name = 'sculpt agent';
const lost = 'the agent as a daemon of this configuration';
const deadlineMilliseconds = 60_000;

/**
 * The sources as `sculpt agent` of this configuration would start them: by a process that has given up what it gives up, and
 * is the user that it becomes. `command`: how to start this program anew so that it answers `checkAsAgent` as JSON.
 */
export function checkAgent(
  { agent }: Config,
  user: string | undefined,
  command: readonly string[],
): [Check, ...Check[]] {
  let checks: Check[] = [];
  const own = attempt(name, false, lost, () => {
    const [file = '', ...args] = commandWithOnly(privilegesOf(agent, user), command);
    const [asAgent, ...sources] = JSON.parse(run(file, args)) as [Check, ...Check[]];
    checks = sources;
    return asAgent;
  });
  return [own, ...checks];
}

/** What such a process finds. */
export async function checkAsAgent(
  machine: Machine,
  config: Config,
  user?: string,
): Promise<Check[]> {
  const { agent } = config;
  const wanted = privilegesOf(agent, user);
  const own = readOwnPrivileges(hostRoots);
  const native = () => loadAddonFor('agent', config, () => undefined, machine.native).native;
  const kept = wanted && own ? describeKept(own, wanted.capabilities) : 'with all it is given';
  const found = `${kept}, as it is configured: so the sources below were tried; "sculpt up" gives up nothing`;
  const asAgent = attempt(name, false, lost, () => {
    native();
    return works(name, false, { found });
  });
  return [
    asAgent,
    await checkScheduler({ ...machine, native }, agent),
    ...(await checkSources({ ...machine, native }, agent)),
  ];
}

/** Attaches its programs for real, by whichever driver. */
async function checkScheduler({ roots, native }: Machine, config: AgentConfig): Promise<Check> {
  const scheduler = 'source sched';
  try {
    const { stop } = await startScheduler({
      config,
      native: native(),
      roots,
      layout: readCgroupLayout(roots),
      hostId: 'doctor',
      clock: realClock,
      say: () => undefined,
    });
    await stop();
    return works(scheduler, true, { found: `was started and stopped, by ${config.driver}` });
  } catch (error) {
    return lacking(scheduler, true, noScheduler, error);
  }
}

function run(file: string, args: readonly string[]): string {
  try {
    return execFileSync(file, args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: deadlineMilliseconds,
    });
  } catch (error) {
    const { stderr } = error as { stderr?: string };
    const why = stderr?.trim().split('\n')[0] || describeError(error);
    throw new KernelInterfaceError('KERNEL_PRIVILEGE', `it does not start: ${why}`, {
      remedy: 'the user that it becomes must be able to read this program and the configuration',
    });
  }
}
