import type { Mechanism } from '../../contract/recommendation.ts';
import type { Plan } from '../plan.ts';
import { directMechanism } from './direct.ts';
import type { MechanismPort } from './mechanism.ts';
import { mirrorMechanism } from './mirror.ts';
import { shadowMechanism } from './shadow.ts';

/** The order of preference. */
const order: readonly MechanismPort[] = [directMechanism, shadowMechanism, mirrorMechanism];

/** Asks from `first` on, in the order of preference, until one can; `chosen` is null when none can. */
export function chooseMechanism(
  plan: Plan,
  first: Mechanism,
): { chosen: Mechanism | null; answers: { mechanism: Mechanism; answer: string }[] } {
  const answers: { mechanism: Mechanism; answer: string }[] = [];
  for (const mechanism of order.slice(order.findIndex(each => each.name === first))) {
    const { available, answer } = mechanism.ask(plan);
    answers.push({ mechanism: mechanism.name, answer });
    if (available) return { chosen: mechanism.name, answers };
  }
  return { chosen: null, answers };
}
