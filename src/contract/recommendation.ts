import * as z from 'zod';
import { cpuListSchema, instanceSchema, movedInstanceSchema, taskSchema } from './instance.ts';

/** cgroup v2 unit: 1..10000, 100 is the default. On v1 `cpu.shares` = weight × 1024 / 100. */
export const weightSchema = z.int().min(1).max(10_000);

/** What a move sets; exactly one of them. */
export const moveSetSchema = z.union([
  z.strictObject({ cpus: cpuListSchema }),
  z.strictObject({ weight: weightSchema }),
  z.strictObject({ idle: z.boolean() }),
  /** EEVDF slice in seconds: 0.1 ms .. 100 ms (sched_setattr(2), kernel 6.12). */
  z.strictObject({ sliceSeconds: z.number().min(0.0001).max(0.1) }),
  z.strictObject({ memoryNodes: z.array(z.int().min(0).max(1023)).min(1).max(1024) }),
]);

/** `tasks` empty: the instance as a whole (its cgroup); else these tasks only. */
export const moveSchema = z.strictObject({
  instance: movedInstanceSchema,
  tasks: z.array(taskSchema).max(65_536),
  set: moveSetSchema,
});

export const mechanismSchema = z.enum(['direct', 'shadow', 'mirror']);

export const instanceClassSchema = z.enum(['latency-critical', 'normal', 'batch']);

export const modelIdentitySchema = z.strictObject({
  name: z.string().min(1),
  version: z.string().min(1),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});

/** `without` and `with` in the metric's unit; `gainRatio` = 1 − with / without, with its interval (the net gain's). */
export const predictedSchema = z.strictObject({
  metric: z.string().min(1),
  without: z.number(),
  with: z.number(),
  gainRatio: z.number().max(1),
  interval: z.tuple([z.number(), z.number()]),
  probability: z.number().min(0).max(1),
});

/** Instances that one recommendation moves, and of which it says what they lose. */
export const mostMoves = 1024;
export const mostCosts = 1024;

/** What an instance that is not the beneficiary is expected to lose: 1 − served after / served before, in its cores. */
export const costSchema = z.strictObject({
  instance: z.string().min(1),
  lossRatio: z.number(),
});

/** A kind of move that was weighed: `chosen`, or why it was not. */
export const alternativeSchema = z.strictObject({
  kind: z.enum(['none', 'weight', 'idle', 'cpuset', 'affinity', 'widen']),
  /** The size in words: `weight 6400`, `cpus 1`. */
  size: z.string(),
  gainRatio: z.number(),
  lossRatio: z.number(),
  chosen: z.boolean(),
  why: z.string().min(1),
});

export const evidenceSchema = z.strictObject({
  summary: z.string().min(1),
  class: z.strictObject({
    is: instanceClassSchema,
    source: z.enum(['declared', 'inferred', 'default']),
  }),
  /** Forecast demand of the beneficiary in cores, by quantile, against the supply its share is worth. */
  demandCores: z.strictObject({ q50: z.number(), q90: z.number(), q95: z.number() }),
  supplyCores: z.number(),
  observed: z.strictObject({
    usedCores: z.number(),
    waitCores: z.number(),
    throttledCores: z.number(),
  }),
  contenders: z.array(z.string()).max(256),
  alternatives: z.array(alternativeSchema).max(16),
});

/** Seconds since the epoch. */
const unixSecondsSchema = z.number().positive();

export const recommendationSchema = z
  .strictObject({
    id: z.uuid(),
    created: unixSecondsSchema,
    expires: unixSecondsSchema,
    leaseSeconds: z.number().min(1).max(3600),
    hostId: z.string().min(1),
    beneficiary: instanceSchema,
    /** The running action whose lease this one renews; its moves must be the same. */
    renews: z.uuid().optional(),
    /** Where the order of preference begins: `direct`, then `shadow`, then `mirror`. */
    mechanism: mechanismSchema,
    moves: z.array(moveSchema).min(1).max(mostMoves),
    predicted: predictedSchema,
    cost: z.array(costSchema).max(mostCosts),
    evidence: evidenceSchema,
    model: modelIdentitySchema,
  })
  .refine(r => r.expires > r.created, {
    message: 'expires must follow created',
    path: ['expires'],
  });

export const withdrawalSchema = z.strictObject({
  id: z.uuid(),
  created: unixSecondsSchema,
  expires: unixSecondsSchema,
  hostId: z.string().min(1),
  actionId: z.uuid(),
  reason: z.string().min(1),
});

/** (epoch, sequence) orders heartbeats; `epoch` is the engine's start in milliseconds since the epoch. */
export const heartbeatSchema = z.strictObject({
  hostId: z.string().min(1),
  created: unixSecondsSchema,
  epoch: z.int().positive(),
  sequence: z.int().min(0),
});

export type Move = z.infer<typeof moveSchema>;
export type Mechanism = z.infer<typeof mechanismSchema>;
export type InstanceClass = z.infer<typeof instanceClassSchema>;
export type ModelIdentity = z.infer<typeof modelIdentitySchema>;
export type Predicted = z.infer<typeof predictedSchema>;
export type Alternative = z.infer<typeof alternativeSchema>;
export type Recommendation = z.infer<typeof recommendationSchema>;
export type Withdrawal = z.infer<typeof withdrawalSchema>;
export type Heartbeat = z.infer<typeof heartbeatSchema>;
