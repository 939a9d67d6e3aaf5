import { describeError, ProtocolError } from '../contract/errors.ts';
import { type EventName, isEventName, parseEvent } from '../contract/events.ts';
import { attr, headlineMetrics, scopes } from '../contract/metrics.ts';
import type { LogEvent, ResourcePoints } from '../contract/telemetry.ts';
import type { Core } from './core.ts';
import { takeCpuTimes, takePlacement } from './host-model.ts';

export type IntakeCounters = {
  /** Of the metrics that are taken. */
  points: number;
  events: number;
  own: number;
  /** Points and events of guests: what somebody says of itself is no measurement of the host. */
  guest: number;
  /** Points and events of another host than the one that was heard of first. */
  otherHost: number;
  unknown: number;
  malformed: number;
  /** Placements of more instances than can be kept. */
  placementsDropped: number;
};

export type Intake = {
  /** Takes metrics; answers the instances that have a new observation. */
  readonly metrics: (resources: readonly ResourcePoints[]) => string[];
  /** Takes events; answers what was wrong with those that were refused. */
  readonly events: (events: readonly LogEvent[]) => string[];
  readonly counters: () => Readonly<IntakeCounters>;
};

/** The metrics that the engine takes: of an export of details they are a tenth. */
export const takenMetrics: ReadonlySet<string> = new Set([...headlineMetrics, 'system.cpu.time']);

/** From what the wire brought to what the planner knows. Its own words are never taken for input. */
export function createIntake(core: Core): Intake {
  const counters: IntakeCounters = {
    points: 0,
    events: 0,
    own: 0,
    guest: 0,
    otherHost: 0,
    unknown: 0,
    malformed: 0,
    placementsDropped: 0,
  };

  /** An engine plans for one host: instances of several have the same ids, and a sculptor hears heartbeats of its own alone. */
  const isOther = (hostId: unknown): boolean => {
    if (typeof hostId !== 'string') return false;
    core.host.id ??= hostId;
    return hostId !== core.host.id;
  };

  /** @throws ProtocolError EVENT_INVALID */
  const ofOurs = <R extends { readonly hostId: string }>(name: EventName, record: R): R => {
    if (!isOther(record.hostId)) return record;
    counters.otherHost += 1;
    throw new ProtocolError(
      'EVENT_INVALID',
      `${name}: hostId: got ${record.hostId}; wanted the host that was heard of first, ${core.host.id}`,
      { at: 'hostId' },
    );
  };

  const takeEvent = (event: LogEvent): void => {
    counters.events += 1;
    if (event.scope === scopes.engine) {
      counters.own += 1;
    } else if (attr.origin in event.resource) {
      counters.guest += 1;
    } else if (!isEventName(event.eventName)) {
      counters.unknown += 1;
    } else if (event.eventName === 'sculptor.topology') {
      core.host.topology = ofOurs(event.eventName, parseEvent('sculptor.topology', event));
    } else if (event.eventName === 'sculptor.placement') {
      const placement = ofOurs(event.eventName, parseEvent('sculptor.placement', event));
      if (!takePlacement(core.host, placement)) counters.placementsDropped += 1;
      if (!placement.alive) core.forget(placement.instance.id);
    } else if (event.eventName === 'sculptor.action') {
      core.takeAction(ofOurs(event.eventName, parseEvent('sculptor.action', event)));
    } else if (event.eventName === 'sculptor.policy') {
      const { policy, mode } = ofOurs(event.eventName, parseEvent('sculptor.policy', event));
      core.takePolicy(policy, mode);
    } else {
      counters.unknown += 1;
    }
  };

  return {
    metrics: resources => {
      const fresh: string[] = [];
      for (const points of resources) {
        if (attr.origin in points.resource) {
          counters.guest += points.points.length;
          continue;
        }
        // Other tools call the host by other names, such as that of the cloud.
        const isAgents = attr.instanceId in points.resource;
        if (isAgents && isOther(points.resource[attr.hostId])) {
          counters.otherHost += points.points.length;
          continue;
        }
        counters.points += points.points.length;
        if (points.resource[attr.instanceKind] === 'host') {
          takeCpuTimes(core.host, points);
          continue;
        }
        const taken = core.series.take(points);
        if (!taken) continue;
        core.takeObservation(taken.instanceId, taken.observation);
        fresh.push(taken.instanceId);
      }
      return fresh;
    },
    events: events =>
      events.flatMap(event => {
        try {
          takeEvent(event);
          return [];
        } catch (error) {
          counters.malformed += 1;
          return [describeError(error)];
        }
      }),
    counters: () => ({ ...counters }),
  };
}
