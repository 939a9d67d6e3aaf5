import { type Action, parkedSeconds } from '../../contract/action.ts';
import type { Mode } from '../../contract/policy.ts';
import type { Candidate, MoveKind } from './candidates.ts';

/** What the planner remembers of a beneficiary between two judgements. Times in seconds since the epoch. */
export type BeneficiaryMemory = {
  /** Nothing is recommended for it before. */
  pausedUntil: number;
  /** Whether that is for the mode alone, and so over when the mode rises. */
  pausedByMode: boolean;
  /** Nothing is recommended for it before, unless the mode asks for no yes any more: a person was asked. */
  awaitsYesUntil: number;
  /** Kinds that cannot be carried out for it, as far as is known: until when they are not tried again, and what was said. */
  readonly refused: Map<MoveKind, { readonly until: number; readonly why: string }>;
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
/** Refusals that are for what the move is, and stay: another kind may do. Until it is tried again, in seconds. */
const lasting: ReadonlySet<string | undefined> = new Set(['owned', 'no-actuator']);
const refusedSeconds = 300;
const mostEscalations = 6;

export function createMemory(): BeneficiaryMemory {
  return {
    pausedUntil: 0,
    pausedByMode: false,
    awaitsYesUntil: 0,
    refused: new Map(),
    escalation: 0,
    calmSince: null,
    renewedAt: 0,
  };
}

/** Learns from what became of an action, of this kind where that is known: when to speak again, and of which kind and size. */
export function remember(memory: BeneficiaryMemory, action: Action, kind?: MoveKind): void {
  const { state, reason, at } = action;
  const neutral = reason?.code === 'neutral';
  memory.awaitsYesUntil = reason?.code === 'approval-needed' ? at + parkedSeconds : 0;
  memory.pausedByMode = state === 'rejected' && reason?.code === 'mode';
  if (kind !== undefined && state === 'rejected' && reason !== null && lasting.has(reason.code))
    memory.refused.set(kind, { until: at + refusedSeconds, why: reason.message });
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

/** Ends the pauses that this mode (which is not off, nor observe) has no need of; answers whether a yes was awaited, and is not any more. */
export function endPauses(memory: BeneficiaryMemory, mode: Mode): boolean {
  if (memory.pausedByMode) memory.pausedUntil = 0;
  memory.pausedByMode = false;
  if (mode !== 'enforce' || memory.awaitsYesUntil === 0) return false;
  memory.awaitsYesUntil = 0;
  return true;
}

/** The candidates, of which those cannot be made that were refused for good. */
export function withoutRefused(
  candidates: readonly Candidate[],
  { refused }: BeneficiaryMemory,
  now: number,
): Candidate[] {
  return candidates.map(candidate => {
    const refusal = refused.get(candidate.kind);
    return candidate.moves === null || refusal === undefined || now >= refusal.until
      ? candidate
      : { ...candidate, moves: null, why: `the sculptor cannot: ${refusal.why}` };
  });
}

function pauseAfter(refusal: string | undefined): number {
  if (refusal === 'mode') return pauseSeconds.mode;
  return soonOver.has(refusal) ? pauseSeconds.soon : pauseSeconds.refused;
}
