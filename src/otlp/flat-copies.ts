import type { EventName } from '../contract/events.ts';
import { attr } from '../contract/metrics.ts';
import type { AttributeValue } from '../contract/telemetry.ts';

/** Where the flat copies come from: a path in the record, and the attribute that copies it. */
const copies: readonly (readonly [path: readonly string[], attribute: string])[] = [
  [['hostId'], attr.hostId],
  [['hostName'], attr.hostName],
  [['mechanism'], 'sculptor.mechanism'],
  [['beneficiary', 'id'], attr.instanceId],
  [['beneficiary', 'name'], attr.instanceName],
  [['instance', 'id'], attr.instanceId],
  [['instance', 'name'], attr.instanceName],
  [['instance', 'kind'], attr.instanceKind],
  [['recommendationId'], 'sculptor.recommendation.id'],
  [['actionId'], 'sculptor.action.id'],
  [['renews'], 'sculptor.action.renews'],
  [['state'], 'sculptor.action.state'],
  [['reason', 'code'], attr.reason],
  [['leaseSeconds'], 'sculptor.lease'],
  [['predicted', 'gainRatio'], 'sculptor.predicted.gain_ratio'],
  [['realised', 'gainRatio'], 'sculptor.realised.gain_ratio'],
  [['model', 'name'], 'sculptor.model.name'],
  [['model', 'version'], 'sculptor.model.version'],
  [['epoch'], 'sculptor.engine.epoch'],
  [['sequence'], 'sculptor.engine.sequence'],
  [['alive'], 'sculptor.instance.alive'],
  [['task', 'instance'], attr.instanceId],
  [['task', 'tgid'], attr.processId],
  [['task', 'tid'], attr.threadId],
  [['task', 'name'], attr.threadName],
  [['preemptor', 'instance'], attr.preemptor],
  [['preemptor', 'tid'], 'sculptor.preemptor.thread.id'],
  [['preemptor', 'name'], 'sculptor.preemptor.thread.name'],
  [['waker', 'instance'], 'sculptor.waker'],
  [['waker', 'tid'], 'sculptor.waker.thread.id'],
  [['waker', 'name'], 'sculptor.waker.thread.name'],
  [['stackId'], 'sculptor.outlier.stack_id'],
  [['cpu'], attr.cpu],
  [['seconds'], 'sculptor.outlier.wait'],
  [['began'], 'sculptor.outlier.began'],
];

/** What `id` of a record is called as an attribute. */
const idAttributes: { readonly [name in EventName]?: string } = {
  'sculptor.recommendation': 'sculptor.recommendation.id',
  'sculptor.withdrawal': 'sculptor.withdrawal.id',
  'sculptor.action': 'sculptor.action.id',
};

/** Flat attributes for people and filters, copied from the record of an event; nothing ever acts on them. */
export function flatCopies(eventName: EventName, record: unknown): Record<string, AttributeValue> {
  const flat: Record<string, AttributeValue> = {};
  const id = idAttributes[eventName];
  for (const [path, attribute] of id ? [...copies, [['id'], id] as const] : copies) {
    const value = at(record, path);
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') {
      flat[attribute] = value;
    }
  }
  return flat;
}

function at(record: unknown, path: readonly string[]): unknown {
  let value = record;
  for (const key of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Record<string, unknown>)[key];
  }
  return value;
}
