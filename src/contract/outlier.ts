import * as z from 'zod';
import { cpuIdSchema, startTicksSchema, tidSchema } from './instance.ts';

const party = {
  tid: tidSchema,
  tgid: tidSchema,
  name: z.string().max(64),
  /** Id of its instance; null: it began since the last reading of instances, or has ended. */
  instance: z.string().min(1).max(4096).nullable(),
};

/** A wait for a CPU that was longer than asked for. Times in seconds. */
export const outlierSchema = z.strictObject({
  hostId: z.string().min(1),
  /** When the wait ended, since the epoch. */
  at: z.number().positive(),
  seconds: z.number().positive(),
  /** How long a CFS quota held it back between the same beginning and end; no part of `seconds`, and 0 for most. */
  throttledSeconds: z.number().min(0),
  cpu: cpuIdSchema,
  task: z.strictObject({ ...party, startTicks: startTicksSchema }),
  /** `throttled`: its quota was used up, nobody took the CPU from it, and it waited once it was let go. */
  began: z.enum(['woken', 'preempted', 'throttled']),
  /** Null: it was an interrupt (a device, a timer, what the kernel does of them later, as with a packet, be it of a local task), or it was preempted. */
  waker: z.strictObject(party).nullable(),
  /**
   * Who left the CPU that the task then got; null: it was idle. Before Linux 6.18 a quota may also hold back a task that
   * waits already: of one that was `woken` or `preempted` and throttled too, others may have had the CPU while it waited.
   */
  preemptor: z.strictObject(party).nullable(),
  /** Functions of the kernel in which the preemptor left, innermost first; addresses where the kernel hides its symbols. */
  stack: z.array(z.string().min(1)).max(16),
  /** 64 bits, the same for the same `stack`, for who counts by it; null: there is none. */
  stackId: z
    .string()
    .regex(/^[0-9a-f]{16}$/)
    .nullable(),
});

export type Outlier = z.infer<typeof outlierSchema>;
