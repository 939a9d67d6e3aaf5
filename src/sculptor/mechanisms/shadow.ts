import type { MechanismPort } from './mechanism.ts';

/** A standby takes over. Nothing provides standbys in this version. */
export const shadowMechanism: MechanismPort = {
  name: 'shadow',
  ask: () => ({ available: false, answer: 'no provider: nothing keeps a standby of an instance' }),
};
