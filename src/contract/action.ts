import * as z from 'zod';
import { instanceSchema } from './instance.ts';
import { modeSchema } from './policy.ts';
import { mechanismSchema, moveSchema, predictedSchema } from './recommendation.ts';

export const actionStateSchema = z.enum([
  'received',
  'validated',
  'rejected',
  'parked',
  'admitted',
  'deferred',
  'snapshotted',
  'applied',
  'failed',
  'observing',
  'kept',
  'rolled-back',
  'yielded',
  'restored',
]);

/** States after which the sculptor holds nothing of an action. */
export const finalActionStates: ReadonlySet<ActionState> = new Set([
  'rejected',
  'deferred',
  'failed',
  'rolled-back',
  'yielded',
  'restored',
]);

/** How long an action waits for a person's yes. */
export const parkedSeconds = 600;

/** Why an action is in its state: a code to filter by and a sentence that names what, where, got and wanted. */
export const actionReasonSchema = z.strictObject({
  code: z.enum([
    'expired',
    'duplicate',
    'replayed',
    'wrong-host',
    'unsigned',
    'bad-signature',
    'malformed',
    'task-ended',
    'tid-reused',
    'cpu-offline',
    'outside-parent',
    'not-found',
    'no-actuator',
    'no-provider',
    'no-telemetry',
    'stale-telemetry',
    'mode',
    'protected',
    'owned',
    'widening-not-allowed',
    'not-contended',
    'guest',
    'limit',
    'cool-down',
    'frozen',
    'window',
    'overlap',
    'approval-needed',
    'approval-expired',
    'no-heartbeat',
    'apply-failed',
    'readback',
    'worse',
    'neutral',
    'improved',
    'changed-by-others',
    'withdrawn',
    'lease-ended',
    'renewed',
    'shutdown',
    'crash-recovery',
    'user',
  ]),
  message: z.string().min(1),
});

/** One thing that was set: `resource` as `cgroup:/a:cpu.shares` or `affinity:TID@TICKS`; values as the kernel writes them. */
export const allocationSchema = z.strictObject({
  resource: z.string().min(1),
  before: z.string(),
  wanted: z.string(),
  after: z.string().nullable(),
});

/** What an action brought, measured. Ratios 0..1; `sculptor.runqueue.wait.ratio` = wait / (run + wait) of the beneficiary, median of 1 s samples. */
export const realisedSchema = z.strictObject({
  metric: z.string().min(1),
  without: z.number(),
  with: z.number(),
  gainRatio: z.number(),
  interval: z.tuple([z.number(), z.number()]),
  samples: z.int().min(0),
  neighbours: z.array(
    z.strictObject({ instance: z.string(), degradationRatio: z.number(), limitRatio: z.number() }),
  ),
});

export const actionSchema = z.strictObject({
  id: z.uuid(),
  recommendationId: z.uuid(),
  hostId: z.string().min(1),
  state: actionStateSchema,
  previousState: actionStateSchema.nullable(),
  mode: modeSchema,
  /** Seconds since the epoch, of this state. */
  at: z.number().positive(),
  reason: actionReasonSchema.nullable(),
  beneficiary: instanceSchema.nullable(),
  mechanism: mechanismSchema.nullable(),
  /** Each mechanism that was asked, in order, and its answer. */
  mechanisms: z.array(z.strictObject({ mechanism: mechanismSchema, answer: z.string() })),
  moves: z.array(moveSchema),
  allocations: z.array(allocationSchema).max(70_000),
  predicted: predictedSchema.nullable(),
  realised: realisedSchema.nullable(),
  leaseEnds: z.number().positive().nullable(),
});

export type ActionState = z.infer<typeof actionStateSchema>;
export type ActionReason = z.infer<typeof actionReasonSchema>;
export type Allocation = z.infer<typeof allocationSchema>;
export type Realised = z.infer<typeof realisedSchema>;
export type Action = z.infer<typeof actionSchema>;
