import * as z from 'zod';
import { instanceClassSchema } from './recommendation.ts';

export const modeSchema = z.enum(['off', 'observe', 'approve', 'enforce']);
export type Mode = z.infer<typeof modeSchema>;

const modeOrder: readonly Mode[] = modeSchema.options;

/** The strictest of several modes: off < observe < approve < enforce. */
export function strictestMode(modes: readonly Mode[]): Mode {
  return modeOrder[Math.min(...modes.map(mode => modeOrder.indexOf(mode)))] ?? 'off';
}

const ratio = z.number().min(0).max(1);

/** A rule that can match nothing protects nobody, and its author believes it does. */
const matchable = /^(\/|[/*](.*[^/])?|[0-9a-f*-]+)$/is;

export const instancePolicySchema = z.strictObject({
  match: z
    .string()
    .min(1)
    .refine(match => matchable.test(match), {
      message:
        'no instance has such an id: wanted the path of a cgroup from / and without a / at its end, the UUID of a VM, or a glob of either',
    })
    .describe(
      'Glob over the instance id: `*` within a path segment, `**` across them. The first match holds.',
    ),
  class: instanceClassSchema
    .optional()
    .describe(
      'What it is: latency-critical gains from moves, batch may lose more. Absent: inferred, and said so.',
    ),
  mode: modeSchema.default('enforce').describe('Ceiling for moves of this instance.'),
  protected: z.boolean().default(false).describe('Never moved, for nobody; it may still gain.'),
  allowWidening: z
    .boolean()
    .default(false)
    .describe(
      'Its pinning (cpuset or affinity) may be widened: otherwise pinning is taken as intended.',
    ),
  maxDegradationRatio: ratio
    .optional()
    .describe('Overrides the largest loss it may suffer as a neighbour (ratio of served demand).'),
});

/** What the operator allows. Every default is what a careful operator would choose. */
export const policySchema = z.strictObject({
  ceiling: modeSchema
    .default('enforce')
    .describe(
      'Local ceiling; the collector may only be stricter. What `sculpt mode` sets instead holds until this is changed, then the stricter of both.',
    ),
  instances: z
    .array(instancePolicySchema)
    .max(10_000)
    .default([])
    .describe('Rules per instance, first match wins.'),
  maxDegradationRatio: ratio
    .default(0.02)
    .describe('Largest loss of a neighbour, 1 − served after / served before.'),
  batch: z
    .strictObject({
      confinedDegradationRatio: ratio
        .default(0.1)
        .describe('For declared batch that is moved or confined.'),
      outweighedDegradationRatio: ratio
        .default(0.5)
        .describe('For declared batch that is out-weighed or made idle.'),
      windowSeconds: z
        .number()
        .min(1)
        .max(600)
        .default(30)
        .describe('Over how long the latter is judged.'),
    })
    .prefault({}),
  contention: z
    .strictObject({
      waitCores: z
        .number()
        .min(0)
        .default(0.05)
        .describe('Run-queue wait below this is never contention (cores).'),
      waitRatio: ratio.default(0.1).describe('Nor is wait below this share of run + wait.'),
    })
    .prefault({}),
  minGainRatio: ratio
    .default(0.2)
    .describe('The lower bound of the predicted net gain must clear this.'),
  limits: z
    .strictObject({
      actionsInFlight: z
        .int()
        .min(1)
        .max(1000)
        .default(4)
        .describe('Actions that hold something at the same time.'),
      actionsPerInstancePerHour: z
        .int()
        .min(1)
        .max(3600)
        .default(12)
        .describe('New actions; renewals do not count.'),
      coolDownSeconds: z
        .number()
        .min(0)
        .default(60)
        .describe('After a roll-back; doubles with each further one.'),
      freezeAfterRollbacks: z
        .int()
        .min(1)
        .default(3)
        .describe('Roll-backs in a row after which an instance is left alone for an hour.'),
      maxTouchedRatio: ratio
        .default(0.5)
        .describe('Largest share of the instances that may be moved at the same time.'),
      maxLeaseSeconds: z
        .number()
        .min(1)
        .max(3600)
        .default(3600)
        .describe('Longest lease that is granted.'),
    })
    .prefault({}),
  changeWindows: z
    .array(
      z.strictObject({
        days: z.array(z.int().min(0).max(6)).min(1).describe('0 = Sunday, in local time.'),
        from: z
          .string()
          .regex(/^([01]\d|2[0-3]):[0-5]\d$/)
          .describe('HH:MM.'),
        to: z
          .string()
          .regex(/^([01]\d|2[0-3]):[0-5]\d$/)
          .describe('HH:MM, exclusive; before `from` means past midnight.'),
      }),
    )
    .default([])
    .describe('New actions only within these; empty: always.'),
});

export type Policy = z.infer<typeof policySchema>;
export type InstancePolicy = z.infer<typeof instancePolicySchema>;

/** The rule that holds for an instance id: the first whose glob matches; null when none does. */
export function instancePolicyOf(policy: Policy, instanceId: string): InstancePolicy | null {
  const isPath = instanceId.startsWith('/');
  return (
    policy.instances.find(({ match }) =>
      // Ids have UUIDs in lower case; people copy them in either.
      globMatches(isPath ? match : match.toLowerCase(), instanceId),
    ) ?? null
  );
}

/** `*` matches within a path segment, `**` across segments; everything else stands for itself. */
export function globMatches(glob: string, text: string): boolean {
  const pattern = glob
    .split(/(\*\*|\*)/)
    .map(part =>
      part === '**' ? '.*' : part === '*' ? '[^/]*' : part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'),
    )
    .join('');
  return new RegExp(`^${pattern}$`, 's').test(text);
}
