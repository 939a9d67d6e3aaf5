import type { MechanismPort } from './mechanism.ts';

/** Moves the thing itself, by an actuator for each move. */
export const directMechanism: MechanismPort = {
  name: 'direct',
  ask: ({ steps, problems }) =>
    problems.length === 0
      ? {
          available: true,
          answer: steps.map(({ move, actuator }) => actuator.dryRun(move)).join('; '),
        }
      : { available: false, answer: problems.map(each => each.message).join('; ') },
};
