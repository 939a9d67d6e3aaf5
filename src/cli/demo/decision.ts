import { setTimeout as sleep } from 'node:timers/promises';
import { type Action, finalActionStates } from '../../contract/action.ts';
import { SculptorError } from '../../contract/errors.ts';
import type { Recommendation } from '../../contract/recommendation.ts';
import type { Loop } from './loop.ts';
import type { Decision } from './result.ts';

/**
 * Waits until an action that began after `since` (seconds since the epoch) is kept: measured, and found better.
 * @throws SculptorError DEMO_FAILED with what happened instead
 */
export async function untilKept(loop: Loop, since: number, seconds: number): Promise<Decision> {
  const recommendations = new Map<string, Recommendation>();
  for (const deadline = performance.now() + seconds * 1000; ; await sleep(250)) {
    for (const each of await loop.recommendations()) recommendations.set(each.id, each);
    const actions = (await loop.actions()).filter(action => action.at >= since);
    const kept = actions.find(action => action.state === 'kept');
    const recommendation = kept && recommendations.get(kept.recommendationId);
    if (kept && recommendation) return { action: kept, recommendation };
    const ended = actions.find(
      ({ state, allocations }) => allocations.length > 0 && finalActionStates.has(state),
    );
    if (ended) throw failure(`an action was not kept: ${sentenceOf(ended)}`);
    if (performance.now() > deadline)
      throw failure(
        `no action was kept within ${seconds} s: ${actions.map(sentenceOf).join('; ') || 'there was none'}`,
      );
  }
}

export function failure(message: string): SculptorError {
  return new SculptorError('DEMO_FAILED', message);
}

/** `rolled-back (worse: neighbour … lost …)`. */
function sentenceOf({ state, reason }: Action): string {
  return reason === null ? state : `${state} (${reason.code}: ${reason.message})`;
}

/** Everything given back, seen in the kernel's files. @throws SculptorError DEMO_FAILED after `seconds` */
export async function untilGivenBack(
  watch: { untilRestored: (seconds: number) => Promise<boolean>; changed: () => string[] },
  seconds: number,
): Promise<void> {
  if (await watch.untilRestored(seconds)) return;
  throw failure(`not given back within ${seconds} s: ${watch.changed().join('; ')}`);
}
