import type { KeyObject } from 'node:crypto';
import type { ActionReason } from '../contract/action.ts';
import { describeError, ProtocolError } from '../contract/errors.ts';
import { type EventName, parseEvent } from '../contract/events.ts';
import { attr, headlineMetrics, scopes } from '../contract/metrics.ts';
import { type Mode, modeSchema } from '../contract/policy.ts';
import type { Say } from '../contract/ports.ts';
import type { Attributes, LogEvent } from '../contract/telemetry.ts';
import { decodeLogs } from '../otlp/decode-logs.ts';
import { decodeMetrics } from '../otlp/decode-metrics.ts';
import type { Skipped } from '../otlp/decode-points.ts';
import type { Outcome } from '../otlp/server.ts';
import { verifyEvent } from '../otlp/signing.ts';
import { unknownId } from './action-log.ts';
import { problem } from './actuators/cgroup-file.ts';
import type { HeadlineMetric, HeadlineSeries } from './headline-series.ts';
import type { Permission } from './permission.ts';
import type { Reception } from './reception.ts';

export type IntakeParts = {
  readonly hostId: string;
  readonly trustedKeys: readonly KeyObject[];
  readonly series: HeadlineSeries;
  readonly permission: Pick<Permission, 'hear'>;
  readonly reception: Pick<Reception, 'receive' | 'refuse' | 'withdraw'>;
  /** Called when a heartbeat was taken: the mode may have changed. */
  readonly heard: () => void;
  readonly say: Say;
};

/** Events and points by what became of them. */
export type IntakeCount =
  | 'recommendations'
  | 'heartbeats'
  | 'withdrawals'
  | 'points'
  | 'ignored.own-scope'
  | 'ignored.guest'
  | 'ignored.other-event'
  | 'ignored.other-host'
  | 'ignored.older-heartbeat'
  | 'ignored.stale-heartbeat'
  | 'ignored.not-cumulative'
  | 'refused.unsigned'
  | 'refused.bad-signature'
  | 'refused.malformed'
  | 'refused.wrong-host';

const acted: ReadonlySet<string> = new Set([
  'sculptor.recommendation',
  'sculptor.withdrawal',
  'sculptor.heartbeat',
]);

/** Of an export of details they are a tenth. */
const taken: ReadonlySet<string> = new Set(headlineMetrics);

type Acted = 'sculptor.recommendation' | 'sculptor.withdrawal' | 'sculptor.heartbeat';

/** What comes in over OTLP: signed events, which are verified before anything is read from them, and headline series. */
export function createIntake(parts: IntakeParts) {
  const counts = new Map<IntakeCount, number>();
  const count = (what: IntakeCount, amount = 1) =>
    counts.set(what, (counts.get(what) ?? 0) + amount);
  const skipped: Skipped = {};
  return {
    /** Points that could not be read, by reason. */
    skipped: (): Readonly<Skipped> => skipped,
    counters: (): Readonly<Record<string, number>> => Object.fromEntries(counts),

    /** A refusal by policy is a success; what is no event of ours to act on is named in a partial success. */
    logs: async (request: Buffer): Promise<Outcome> => {
      const messages: string[] = [];
      for (const event of decodeLogs(request)) {
        if (event.scope === scopes.sculptor) count('ignored.own-scope');
        else if (attr.origin in event.resource) count('ignored.guest');
        else if (!acted.has(event.eventName)) count('ignored.other-event');
        else {
          const wrong = take(parts, count, event, event.eventName as Acted);
          if (wrong) messages.push(wrong.message);
        }
      }
      return messages.length === 0
        ? { kind: 'ok' }
        : { kind: 'partial', rejected: messages.length, message: messages.slice(0, 5).join('; ') };
    },

    metrics: async (request: Buffer): Promise<Outcome> => {
      for (const { resource, points } of decodeMetrics(request, skipped, taken)) {
        // What a guest says of itself is no measurement of the host.
        if (attr.origin in resource) {
          count('ignored.guest', points.length);
          continue;
        }
        const instance = resource[attr.instanceId];
        if (resource[attr.hostId] !== parts.hostId || typeof instance !== 'string') {
          count('ignored.other-host');
          continue;
        }
        for (const point of points) {
          if (typeof point.value !== 'number') continue;
          if (point.temporality !== 'cumulative') {
            count('ignored.not-cumulative');
            continue;
          }
          parts.series.add(instance, point.metric as HeadlineMetric, point.time, point.value);
          count('points');
        }
      }
      return { kind: 'ok' };
    },
  };
}

/** Verifies, parses and hands on one event; answers what was wrong with it, which is recorded. */
function take(
  parts: IntakeParts,
  count: (what: IntakeCount) => void,
  event: LogEvent,
  name: Acted,
): ActionReason | null {
  const forged = signatureProblem(parts, event, name);
  if (forged) return refuse(parts, count, event, name, forged);
  try {
    return dispatch(parts, count, event, name);
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    return refuse(parts, count, event, name, problem('malformed', describeError(error)));
  }
}

function signatureProblem(
  parts: IntakeParts,
  event: LogEvent,
  name: EventName,
): ActionReason | null {
  try {
    verifyEvent(event, name, parts.trustedKeys);
    return null;
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    const code = error.context['signed'] === true ? 'bad-signature' : 'unsigned';
    return problem(code, describeError(error));
  }
}

function dispatch(
  parts: IntakeParts,
  count: (what: IntakeCount) => void,
  event: LogEvent,
  name: Acted,
): ActionReason | null {
  const record = parseEvent(name, event);
  if (record.hostId !== parts.hostId) {
    const message = `${name}: hostId: got ${record.hostId}; wanted this host, ${parts.hostId}`;
    return refuse(parts, count, event, name, problem('wrong-host', message));
  }
  const stamp = stampOf(event.attributes);
  if ('sequence' in record) {
    const answer = parts.permission.hear(record, stamp);
    count(answer === 'taken' ? 'heartbeats' : `ignored.${answer}-heartbeat`);
    if (answer === 'taken') parts.heard();
  } else if ('actionId' in record) {
    // An old one can only give back what the engine once wanted back: it is as harmless as a lease that ends.
    count('withdrawals');
    parts.reception.withdraw(record);
  } else {
    count('recommendations');
    parts.reception.receive(record, stamp);
  }
  return null;
}

/** Recommendations and withdrawals that are refused are actions in state `rejected`; a heartbeat has none. */
function refuse(
  parts: IntakeParts,
  count: (what: IntakeCount) => void,
  event: LogEvent,
  name: Acted,
  reason: ActionReason,
): ActionReason {
  count(`refused.${reason.code}` as IntakeCount);
  if (name === 'sculptor.heartbeat') parts.say('warn', reason.message);
  else parts.reception.refuse(reason, null, claimedId(event));
  return reason;
}

/** The id that a refused record claims, for people to find it; never acted on. */
function claimedId(event: LogEvent): string {
  try {
    const id = (JSON.parse(String(event.attributes[attr.payload])) as { id?: unknown } | null)?.id;
    return typeof id === 'string' && uuid.test(id) ? id : unknownId;
  } catch {
    // It is refused because it cannot be read; then it has no id either.
    return unknownId;
  }
}

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i;

/** Absent or unknown: observe. */
function stampOf(attributes: Attributes): Mode {
  return modeSchema.safeParse(attributes[attr.mode]).data ?? 'observe';
}
