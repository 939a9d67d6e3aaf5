import { scopes } from '../../contract/metrics.ts';
import type { HistogramResolution } from '../../otlp/histogram-resolution.ts';
import { createResourceWriter } from '../../otlp/resource-writer.ts';
import type { Sample, Telling } from '../../otlp/sample.ts';
import type { Temporal } from '../../otlp/temporality.ts';
import { writeParts } from '../../otlp/write-parts.ts';
import { hostResource, type Identity, instanceResource } from '../resources.ts';
import type { LivingInstance } from './instances.ts';

/** Writes what is told of a resource at a time, in as many requests as it takes; each holds until the next is written. */
export type ToldWriter = (samples: readonly Sample[], now: number) => Iterable<Uint8Array>;

/** What is told together, again and again: the headline series alone, or with everything else. */
export type ToldWriters = { readonly headline: ToldWriter; readonly detail: ToldWriter };

export type ToldResources = {
  readonly of: (living: LivingInstance) => ToldWriters;
  readonly host: ToldWriters;
};

/** Writers of each life, kept as long as somebody holds it, and of the host. */
export function createToldResources(options: {
  readonly identity: Identity;
  readonly temporal: Temporal;
  readonly resolution: () => HistogramResolution;
}): ToldResources {
  const { identity, temporal, resolution } = options;
  const known = new WeakMap<LivingInstance, ToldWriters>();
  const writersOf = (resource: Telling['resource']): ToldWriters => {
    const telling = { scope: scopes.agent, resource, temporal, resolution };
    const headline = createResourceWriter(telling);
    return {
      headline: (samples, now) => [headline(samples, now)],
      // Its series come and go, and all of it is told ten times as seldom: not worth the memory of what was written.
      detail: (samples, now) => writeParts(telling, samples, now),
    };
  };
  return {
    of: living => {
      const writers = known.get(living) ?? writersOf(instanceResource(identity, living));
      known.set(living, writers);
      return writers;
    },
    host: writersOf(hostResource(identity)),
  };
}
