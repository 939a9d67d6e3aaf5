import * as z from 'zod';
import { notAnAnswer } from './qmp-answer.ts';

/** Of one drive in one direction, since QEMU was started. */
export type DriveCounters = {
  readonly bytes: number;
  readonly operations: number;
  readonly timeNs: number;
};

export type Drive = {
  readonly name: string;
  readonly counters: Readonly<Record<'read' | 'write' | 'flush' | 'discard', DriveCounters>>;
};

const count = z.number().min(0);
/** QEMU counts discards from 4.2 on. */
const later = count.default(0);

/** A name becomes a label of every export. */
const name = z.string().max(256).default('');

const statsSchema = z
  .array(
    z.object({
      device: name,
      qdev: name,
      stats: z.object({
        rd_bytes: count,
        rd_operations: count,
        rd_total_time_ns: count,
        wr_bytes: count,
        wr_operations: count,
        wr_total_time_ns: count,
        flush_operations: count,
        flush_total_time_ns: count,
        unmap_bytes: later,
        unmap_operations: later,
        unmap_total_time_ns: later,
      }),
    }),
  )
  .max(4096);

/**
 * Drives of a guest by an answer to `query-blockstats`: named as `-drive id=…`, else as the guest's device. Not those that
 * nothing was ever asked of, such as an empty tray.
 * @throws KernelInterfaceError QMP_UNAVAILABLE
 */
export function parseBlockStats(answer: unknown): Drive[] {
  const parsed = statsSchema.safeParse(answer);
  if (!parsed.success) throw notAnAnswer('query-blockstats', parsed.error);
  return parsed.data.flatMap(({ device, qdev, stats }): Drive[] => {
    const name = device || nameOf(qdev);
    const of = (bytes: number, operations: number, timeNs: number): DriveCounters => ({
      bytes,
      operations,
      timeNs,
    });
    const counters = {
      read: of(stats.rd_bytes, stats.rd_operations, stats.rd_total_time_ns),
      write: of(stats.wr_bytes, stats.wr_operations, stats.wr_total_time_ns),
      flush: of(0, stats.flush_operations, stats.flush_total_time_ns),
      discard: of(stats.unmap_bytes, stats.unmap_operations, stats.unmap_total_time_ns),
    };
    return name !== '' && isUsed({ name, counters }) ? [{ name, counters }] : [];
  });
}

/** Whether anything was ever asked of it. */
export function isUsed({ counters }: Drive): boolean {
  return Object.values(counters).some(({ operations }) => operations > 0);
}

/** `/machine/peripheral/disk0/virtio-backend` is the device with the id `disk0`. */
function nameOf(qdev: string): string {
  return qdev
    .replace(/^\/machine\/(peripheral|peripheral-anon|unattached)\//, '')
    .replace(/\/virtio-backend$/, '');
}
