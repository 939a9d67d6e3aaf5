import type { AttributeName } from '../attributes.ts';
import type { SourceName } from './sources.ts';

export type MetricSpec = {
  readonly unit: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** Headline series go out every second (200 ms while contended); the rest every 10 s. */
  readonly headline: boolean;
  readonly of: 'instance' | 'task' | 'host' | 'self';
  readonly description: string;
  /** Of its points, beside those that name a task. */
  readonly attributes: readonly AttributeName[];
  /** Who measures it, each a part of its series; `sources` says by which hook, and at what cost. */
  readonly sources: readonly SourceName[];
};

type Sourceless = Omit<MetricSpec, 'sources'>;

const as =
  (type: MetricSpec['type'], headline = false) =>
  (
    unit: string,
    subject: MetricSpec['of'],
    description: string,
    attributes: readonly AttributeName[] = [],
  ): Sourceless => ({ unit, type, headline, of: subject, description, attributes });

export const counter = as('counter');
export const gauge = as('gauge');
export const histogram = as('histogram');
export const headline = as('counter', true);

/** The metrics that these sources measure. */
export function of<Name extends string>(
  sources: SourceName | readonly SourceName[],
  specs: Readonly<Record<Name, Sourceless>>,
): Readonly<Record<Name, MetricSpec>> {
  const entries = Object.entries<Sourceless>(specs).map(([name, spec]) => [
    name,
    { ...spec, sources: [sources].flat() },
  ]);
  return Object.fromEntries(entries) as Record<Name, MetricSpec>;
}
