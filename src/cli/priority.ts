import { readdirSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';
import type { Config } from '../contract/config.ts';
import { describeError } from '../contract/errors.ts';
import type { Say } from '../contract/ports.ts';

/**
 * The loop that ends contention must get a CPU while there is contention. It uses a few hundredths of a core, so the others
 * lose nothing by it. Threads and processes that are started later inherit it. Without the privilege it stays as it is.
 */
export function raisePriority(nice: Config['nice'], say: Say): void {
  if (nice === null || process.getuid?.() !== 0 || getPriority() === nice) return;
  try {
    // The kernel has a value for each thread, and V8 has some by now.
    for (const tid of readdirSync('/proc/self/task')) setPriority(Number(tid), nice);
    say('info', `runs at nice ${nice}; \`nice: null\` in the configuration leaves it as it was`);
  } catch (error) {
    // Root in a container often lacks CAP_SYS_NICE.
    say('warn', `stays at nice ${getPriority()}, not ${nice}: ${describeError(error)}`);
  }
}
