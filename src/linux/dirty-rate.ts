import * as z from 'zod';
import { notAnAnswer } from './qmp-answer.ts';

/** What a QEMU knows of how fast its guest writes to its memory: of the last measurement that anybody asked for. */
export type DirtyRate = {
  /** Tells one measurement from another: when it was begun, by QEMU's own clock. */
  readonly startSeconds: number;
} & (
  | { readonly status: 'unstarted' | 'measuring' }
  | { readonly status: 'measured'; readonly bytesPerSecond: number }
);

const answerSchema = z.discriminatedUnion('status', [
  z.object({ status: z.enum(['unstarted', 'measuring']), 'start-time': z.int() }),
  z.object({
    status: z.literal('measured'),
    'start-time': z.int().min(0),
    /** MiB/s; QEMU says -1 where it came to nothing. */
    'dirty-rate': z.int().min(0),
  }),
]);

const mib = 1 << 20;

/**
 * An answer to `query-dirty-rate`.
 * @throws KernelInterfaceError QMP_UNAVAILABLE
 * @see https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html
 */
export function parseDirtyRate(answer: unknown): DirtyRate {
  const parsed = answerSchema.safeParse(answer);
  if (!parsed.success) throw notAnAnswer('query-dirty-rate', parsed.error);
  const { data } = parsed;
  const startSeconds = data['start-time'];
  if (data.status !== 'measured') return { status: data.status, startSeconds };
  return { status: data.status, startSeconds, bytesPerSecond: data['dirty-rate'] * mib };
}
