import * as z from 'zod';
import { cpuIdSchema, startTicksSchema, tidSchema } from './instance.ts';

const party = {
  tid: tidSchema,
  tgid: tidSchema,
  name: z.string().max(64),
  /** Id of its instance; null: it began since the last reading of instances, or has ended. */
  instance: z.string().min(1).max(4096).nullable(),
};

/** A wait in the run queue that was longer than asked for, throttled time with it. Times in seconds. */
export const outlierSchema = z.strictObject({
  hostId: z.string().min(1),
  /** When the wait ended, since the epoch. */
  at: z.number().positive(),
  seconds: z.number().positive(),
  cpu: cpuIdSchema,
  task: z.strictObject({ ...party, startTicks: startTicksSchema }),
  began: z.enum(['woken', 'preempted']),
  /** Who ran where the wake-up came from, which may have been an interrupt; null: nobody did, or it was preempted. */
  waker: z.strictObject(party).nullable(),
  /** Who left the CPU that the task then got; null: it was idle. */
  preemptor: z.strictObject(party).nullable(),
  /** Functions of the kernel in which the preemptor left, innermost first; addresses where the kernel hides its symbols. */
  stack: z.array(z.string().min(1)).max(16),
});

export type Outlier = z.infer<typeof outlierSchema>;
