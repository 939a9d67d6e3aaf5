import { attr } from '../../contract/metrics.ts';
import type { MetricPoint, ResourcePoints } from '../../contract/telemetry.ts';
import { decodeMetrics } from '../../otlp/decode-metrics.ts';

/** What a guest's own agent says of one of its vCPUs: seconds since the gate first heard of it, never falling. */
export type VcpuView = {
  /** When that was, in seconds since the epoch by the host's clock. */
  readonly start: number;
  /** When it was last heard of. */
  readonly at: number;
  /** Its tasks waited for that vCPU, be it for another task of the guest or for the host. */
  readonly waitSeconds: number;
  /** The guest's account of what its host kept from that vCPU. */
  readonly stealSeconds: number;
};

/** One that has said nothing for so long has a gap, not a rest. */
export const silentSeconds = 60;

/** By index of the vCPU. */
export type GuestView = ReadonlyMap<number, VcpuView>;

export type GuestViewer = {
  /**
   * Looks into a request of metrics for what is of vCPUs; most have nothing of it, and are not decoded. A counter that began
   * anew goes on from what it was; a point that comes late changes nothing. Deltas are not looked at. Where several agents of one
   * guest tell, the first is listened to until it is silent: their counters are not one.
   * @throws ProtocolError OTLP_MALFORMED
   */
  readonly look: (request: Buffer, now: number) => void;
  readonly view: () => GuestView;
};

const fields = {
  'sculptor.cpu.runqueue.wait': { field: 'waitSeconds', index: attr.cpu },
  'sculptor.vcpu.steal': { field: 'stealSeconds', index: attr.vcpuIndex },
} as const;

/** KVM's own limit is 4,096; a guest that claims more is not believed. */
const mostVcpus = 4096;

/** A century: sums of it stay numbers. */
const mostSeconds = 3.2e9;

export function createGuestViewer(): GuestViewer {
  const view = new Map<number, VcpuView>();
  const last = new Map<string, Readonly<Record<'value' | 'time' | 'start', number>>>();
  let teller: unknown;
  let heardAt = Number.NEGATIVE_INFINITY;

  const take = (point: MetricPoint, now: number): void => {
    const known = fields[point.metric as keyof typeof fields];
    const { value, time, start } = point;
    if (point.temporality !== 'cumulative' || !isCount(value)) return;
    const index = point.attributes[known.index];
    if (!isIndex(index)) return;
    const vcpu = view.get(index) ?? { start: now, at: now, waitSeconds: 0, stealSeconds: 0 };
    const key = `${known.field} ${index}`;
    const before = last.get(key) ?? { value, time, start };
    const isLess = value < before.value;
    // Of the same life, and older: a guest may send through a collector that keeps no order.
    if (isLess && start === before.start && time < before.time) return;
    // Below what it was: it began anew, and has counted since.
    const grown = isLess ? value : value - before.value;
    last.set(key, { value, time, start });
    view.set(index, { ...vcpu, at: now, [known.field]: vcpu[known.field] + grown });
  };

  const listen = ({ resource, points }: ResourcePoints, now: number): void => {
    const ofVcpus = points.filter(({ metric }) => Object.hasOwn(fields, metric));
    if (ofVcpus.length === 0) return;
    const id = resource[attr.serviceInstanceId];
    if (id !== teller) {
      // Where the clock was set back, that is no word of the first either.
      if (Math.abs(now - heardAt) <= silentSeconds) return;
      teller = id;
      last.clear();
    }
    heardAt = now;
    for (const point of ofVcpus) take(point, now);
  };

  return {
    look: (request, now) => {
      if (!Object.keys(fields).some(name => request.includes(name))) return;
      for (const resource of decodeMetrics(request)) listen(resource, now);
    },
    view: () => view,
  };
}

function isCount(value: MetricPoint['value']): value is number {
  return typeof value === 'number' && value >= 0 && value < mostSeconds;
}

function isIndex(value: unknown): value is number {
  return Number.isInteger(value) && Number(value) >= 0 && Number(value) < mostVcpus;
}
