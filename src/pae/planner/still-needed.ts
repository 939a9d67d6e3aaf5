import type { Action } from '../../contract/action.ts';
import type { Placement } from '../../contract/host.ts';
import type { Observation } from '../series.ts';
import type { Contention } from './contenders.ts';
import { shareOf, wantedShare } from './sizing.ts';

/** Weight of a cgroup to which nothing was done, in cgroup v2 units. */
const defaultWeight = 100;
/** CPUs that are busier than this leave no room in which a task that wakes up finds one idle. */
const fullRatio = 0.95;
/** Below this a beneficiary is asleep (cores). */
const asleepCores = 0.01;

/** Whether the contention would come back without the action: the CPUs would be full, and its share would not do. */
export function stillNeeded(
  action: Pick<Action, 'moves' | 'allocations'>,
  placement: Placement,
  { cpus, contenders }: Contention,
  { usedCores, waitCores }: Observation,
): boolean {
  if (usedCores < asleepCores) return false;
  const widened = action.moves.some(
    move => 'cpus' in move.set && move.instance.id === placement.instance.id,
  );
  const others = contenders.reduce((sum, { activity }) => sum + activity, 0);
  const wanted = contenders.reduce(
    (sum, { observation }) => sum + observation.usedCores + observation.waitCores,
    usedCores + waitCores,
  );
  if (widened) return wanted > fullRatio * cpusOf(action.allocations[0]?.before ?? '');
  if (wanted < fullRatio * cpus.length) return false;
  const contendersWeight = (defaultWeight * others) / Math.max(1, cpus.length);
  return shareOf(defaultWeight, contendersWeight) < wantedShare(usedCores);
}

/** How many CPUs a kernel's list such as `0-3,7` names; at least one. */
function cpusOf(list: string): number {
  const count = list
    .split(',')
    .map(part => part.split('-').map(Number))
    .reduce((sum, [from = 0, to = from]) => sum + to - from + 1, 0);
  return Number.isFinite(count) ? Math.max(1, count) : 1;
}
