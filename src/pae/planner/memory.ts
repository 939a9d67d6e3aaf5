import type { Action } from '../../contract/action.ts';

/** What the planner remembers of a beneficiary between two judgements. Times in seconds since the epoch. */
export type BeneficiaryMemory = {
  /** Nothing is recommended for it before. */
  pausedUntil: number;
  /** Whether that is for the mode alone, and so over when the mode rises. */
  pausedByMode: boolean;
  /** How often a move was kept from it for being too small: each takes the next size. */
  escalation: number;
  /** Since when a running action has not been needed. */
  calmSince: number | null;
  renewedAt: number;
};

/** How long after an answer the same beneficiary is left alone, by what was answered. */
export const pauseSeconds = {
  mode: 5,
  refused: 10,
  soon: 0.5,
  failed: 30,
  open: 15,
  ended: 1,
} as const;
/** Refusals that the next samples may change. */
const soonOver: ReadonlySet<string | undefined> = new Set([
  'not-contended',
  'no-telemetry',
  'stale-telemetry',
  'no-heartbeat',
]);
const mostEscalations = 6;

export function createMemory(): BeneficiaryMemory {
  return { pausedUntil: 0, pausedByMode: false, escalation: 0, calmSince: null, renewedAt: 0 };
}

/** Learns from what became of an action: when to speak again, and of which size. */
export function remember(memory: BeneficiaryMemory, { state, reason, at }: Action): void {
  const neutral = reason?.code === 'neutral';
  memory.pausedByMode = state === 'rejected' && reason?.code === 'mode';
  switch (state) {
    case 'kept':
      memory.escalation = 0;
      break;
    case 'rejected':
    case 'deferred':
      memory.pausedUntil = at + pauseAfter(reason?.code);
      break;
    case 'failed':
    case 'yielded':
      memory.pausedUntil = at + pauseSeconds.failed;
      break;
    case 'rolled-back':
      if (neutral) memory.escalation = Math.min(mostEscalations, memory.escalation + 1);
      memory.pausedUntil = at + pauseSeconds.failed;
      break;
    case 'restored':
      memory.pausedUntil = at + pauseSeconds.ended;
      break;
    default:
  }
}

function pauseAfter(refusal: string | undefined): number {
  if (refusal === 'mode') return pauseSeconds.mode;
  return soonOver.has(refusal) ? pauseSeconds.soon : pauseSeconds.refused;
}
