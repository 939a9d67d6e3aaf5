import { readdirSync, writeFileSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';
import type { Config } from '../contract/config.ts';
import { describeError } from '../contract/errors.ts';
import type { Say } from '../contract/ports.ts';
import { type NiceScope, readNiceScope } from '../linux/nice-scope.ts';
import { readText } from '../linux/read-file.ts';
import { hostRoots } from '../linux/roots.ts';

/**
 * The loop that ends contention must get a CPU while there is contention. It uses a few hundredths of a core, so the others
 * lose nothing by it. Threads and processes that are started later inherit it. Without the privilege it stays as it is.
 */
export function raisePriority(nice: Config['nice'], say: Say): void {
  if (nice === null || process.getuid?.() !== 0) return;
  const before = getPriority();
  try {
    // The kernel has a value for each thread, and V8 has some by now.
    for (const tid of readdirSync('/proc/self/task')) setPriority(Number(tid), nice);
  } catch (error) {
    // Root in a container often lacks CAP_SYS_NICE.
    say('warn', `stays at nice ${before}, not ${nice}: ${describeError(error)}`);
    return;
  }
  const scope = readNiceScope(hostRoots, process.pid);
  const isRaised = scope.kind === 'session' && scope.leads && raiseSession(nice, say);
  if (before === nice && !isRaised) return;
  const where = whereCounts(scope);
  say(
    'info',
    `runs at nice ${nice}${where}; \`nice: null\` in the configuration leaves it as it was`,
  );
}

/** Only of a session of its own, as each service has: to others belong a person's shell and what else it runs. */
function raiseSession(nice: number, say: Say): boolean {
  const file = '/proc/self/autogroup';
  if (readText(file)?.endsWith(` nice ${nice}`)) return false;
  try {
    writeFileSync(file, `${nice}`);
    return true;
  } catch (error) {
    say('warn', `its session stays as it was among others (${file}): ${describeError(error)}`);
    return false;
  }
}

/** Empty: among all. */
function whereCounts(scope: NiceScope): string {
  if (scope.kind === 'cgroup')
    return ` within ${scope.path}, whose weight (${scope.weight}) is what counts beside other cgroups`;
  if (scope.kind === 'host' || scope.leads) return '';
  return ' within its session, which the kernel weighs as any other (autogroup): started as a service, or by setsid, it counts among all';
}
