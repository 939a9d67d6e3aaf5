import * as z from 'zod';
import { instanceSchema } from './instance.ts';

const name = {
  metric: z.string().min(1),
  unit: z.string(),
  attributes: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
};

const start = z.number().describe('Seconds since the epoch: when its counting began.');
const total = z.number().describe('Since `start`: the number that is exported.');

/** NaN is no number of JSON: a sum that is not known is null. */
const sum = z.number().nullable();

const quantile = z
  .number()
  .nullable()
  .describe(
    'Upper bound of the exact bucket (a quarter of an octave, of explicit ones as wide as they are) that has the quantile; null: nothing was counted.',
  );

export const profileSeriesSchema = z.discriminatedUnion('type', [
  z.strictObject({
    ...name,
    type: z.literal('counter'),
    start,
    total,
    /** Both null where it is not known what stood when the window began, such as of a task that became hot meanwhile. */
    delta: z.number().nullable(),
    perSecond: z.number().nullable(),
  }),
  z.strictObject({ ...name, type: z.literal('gauge'), value: z.number() }),
  z.strictObject({
    ...name,
    type: z.literal('histogram'),
    start,
    total: z.strictObject({ count: z.number(), sum }),
    delta: z
      .strictObject({ count: z.number(), sum, p50: quantile, p90: quantile, p99: quantile })
      .nullable(),
  }),
]);

/**
 * The Performance Profile: the rolling window of telemetry of one instance, made of the very samples that one export of its
 * metrics has. `time`: of that reading, seconds since the epoch. `windowSeconds` ends there; it began with the agent, the
 * instance, or the reading that is at least `agent.profileWindowSeconds` older.
 */
export const profileSchema = z.strictObject({
  hostId: z.string().min(1),
  instance: instanceSchema,
  time: z.number().positive(),
  windowSeconds: z.number().min(0),
  series: z.array(profileSeriesSchema),
});

export type Profile = z.infer<typeof profileSchema>;
export type ProfileSeries = z.infer<typeof profileSeriesSchema>;
