import * as z from 'zod';
import { metricSelectionSchema, profileNameSchema } from './selection.ts';

/** What an agent can change while it runs; everything else of its section holds from its start. */
export const agentSettings = {
  readIntervalSeconds: z
    .number()
    .min(0.05)
    .max(10)
    .default(0.2)
    .describe(
      'How often the instance totals are read; contended instances are exported at this rate. With `fastInstances: 0` nothing is, and they are read once in `headlineIntervalSeconds`, or once a second where that is longer (never more often than said here); with `driver: bpftrace` once a second at most.',
    ),
  headlineIntervalSeconds: z
    .number()
    .min(0.2)
    .max(60)
    .default(1)
    .describe('Export interval of the headline series.'),
  detailIntervalSeconds: z
    .number()
    .min(1)
    .max(600)
    .default(10)
    .describe('Export interval of everything else.'),
  hotTasks: z
    .int()
    .min(0)
    .max(10_000)
    .default(100)
    .describe('K: the hottest tasks of the host that get series of their own.'),
  fastInstances: z
    .int()
    .min(0)
    .max(1000)
    .default(20)
    .describe(
      'How many contended instances are exported at the read interval; 0: none, and totals are read less often.',
    ),
  histograms: z
    .enum(['explicit', 'explicit-fine', 'exponential'])
    .default('explicit')
    .describe(
      'Resolution of exported histograms: octave bounds, quarter octaves, or exponential of scale 2; all are merged from the same exact buckets.',
    ),
  profile: profileNameSchema
    .default('default')
    .describe(
      'Which metrics are told: what engine and sculptor stand on, what shows the common bottlenecks, or all. A source of which nothing is told is not started (but for kvm, while it alone tells which threads run vCPUs).',
    ),
  metrics: metricSelectionSchema.prefault({}),
  outliers: z
    .strictObject({
      aboveSeconds: z
        .number()
        .min(0.000_1)
        .max(60)
        .nullable()
        .default(null)
        .describe(
          'Waits for a CPU from this on, without what a quota held back, are told one by one, as events sculptor.outlier; null: none are, and nothing is attached for it.',
        ),
      perInstancePerSecond: z
        .int()
        .min(1)
        .max(1000)
        .default(10)
        .describe('What an instance may tell of them in a second; the kernel counts the others.'),
    })
    .prefault({}),
  profileWindowSeconds: z
    .number()
    .min(1)
    .max(600)
    .default(10)
    .describe(
      'What a Performance Profile looks back over; at least one detail interval, and of many of them up to a fifth more.',
    ),
};

/** The settings that hold now. */
export const agentSettingsSchema = z.strictObject(agentSettings);

export type AgentSettings = z.infer<typeof agentSettingsSchema>;
