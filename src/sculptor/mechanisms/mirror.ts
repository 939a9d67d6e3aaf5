import type { MechanismPort } from './mechanism.ts';

/** A second copy of read-mostly memory. Nothing provides mirrors in this version. */
export const mirrorMechanism: MechanismPort = {
  name: 'mirror',
  ask: () => ({ available: false, answer: 'no provider: nothing mirrors memory of an instance' }),
};
