import { readCpuTimes } from '../../src/linux/procfs.ts';
import { hostRoots } from '../../src/linux/roots.ts';

/**
 * Seconds since boot that other machines had this one's CPUs, of all of them. The kernel takes them off what a task has run by
 * /proc/PID/schedstat; by the time of day, which the agent goes by, the task had the CPU.
 */
export function stolenSeconds(): number {
  return readCpuTimes(hostRoots).reduce((sum, { stealSeconds }) => sum + stealSeconds, 0);
}
