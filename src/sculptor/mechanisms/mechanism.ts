import type { Mechanism } from '../../contract/recommendation.ts';
import type { Plan } from '../plan.ts';

/** A way to carry a recommendation out, asked whether it can. */
export type MechanismPort = {
  readonly name: Mechanism;
  readonly ask: (plan: Plan) => { readonly available: boolean; readonly answer: string };
};
