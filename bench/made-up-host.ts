import { placementEvent } from '../src/agent/host-events.ts';
import { hostResource, instanceResource } from '../src/agent/resources.ts';
import { agentConfigSchema } from '../src/contract/config.ts';
import type { Placement, Topology } from '../src/contract/host.ts';
import { attr, scopes } from '../src/contract/metrics.ts';
import { eventEncoder } from '../src/otlp/events-exporter.ts';
import { plainEvent } from '../src/otlp/plain-event.ts';
import type { PointAttributes, Sample, Telling } from '../src/otlp/sample.ts';
import { temporalityFrom } from '../src/otlp/temporality.ts';
import { writeMetrics } from '../src/otlp/write-metrics.ts';
import { maxRequestBytes } from '../src/otlp/write-parts.ts';

/** What an agent tells of it, as requests of OTLP: one step is one reading of the agent. */
export type MadeUpHost = {
  /** Seconds between two steps. */
  readonly stepSeconds: number;
  /** What is told at a time (seconds since the epoch). */
  readonly step: (now: number) => { metrics: readonly Buffer[]; logs: readonly Buffer[] };
};

/** One in so many instances waits for CPUs, and one in so many may use four CPUs only. */
const [contendedEach, pinnedEach] = [20, 10];
const tasksEach = 12;
/** Series beside the headline ones, which nobody plans with; of a real agent's default profile an instance has some 60. */
const otherSeries = 60;

type MadeUp = {
  readonly placement: Placement;
  readonly resource: PointAttributes;
  readonly isFast: boolean;
  readonly isContended: boolean;
  readonly usedCores: number;
  used: number;
  waited: number;
};

/**
 * A host of so many instances and CPUs, at the shipped rates: a third are VMs, a third containers in pods, a third services. Nothing of it
 * runs, so it costs a bench next to nothing.
 */
export function makeUpHost(instances: number, cpus: number): MadeUpHost {
  const { readIntervalSeconds, headlineIntervalSeconds, detailIntervalSeconds, ...shipped } =
    agentConfigSchema.parse({});
  const identity = { hostId: 'made-up', hostName: 'made-up' };
  const allCpus = Array.from({ length: cpus }, (_, id) => id);
  const start = Date.now() / 1000;
  const all = Array.from({ length: instances }, (_, i) =>
    madeUp(i, allCpus, identity, i / contendedEach < shipped.fastInstances),
  );
  const temporal = temporalityFrom(undefined);
  const telling = (resource: PointAttributes): Telling => ({
    ...{ scope: scopes.agent, resource, temporal },
    resolution: () => 'explicit',
  });
  const encode = eventEncoder(scopes.agent, {
    'service.name': 'sculptor-agent',
    'host.id': identity.hostId,
  });
  const host = hostResource(identity);
  const others = Array.from({ length: otherSeries }, (_, i) => Object.freeze({ [attr.cpu]: i }));
  const idleModes = allCpus.map(cpu => Object.freeze({ [attr.cpu]: cpu, 'cpu.mode': 'idle' }));
  const every = (seconds: number) => Math.round(seconds / readIntervalSeconds);
  const perStep = Math.ceil(instances / every(shipped.placementIntervalSeconds));
  let steps = 0;

  const samplesOf = (one: MadeUp, isDetail: boolean): Sample[] => [
    { metric: 'container.cpu.time', start, value: one.used },
    { metric: 'sculptor.runqueue.wait', start, value: one.waited },
    { metric: 'sculptor.cpu.throttled.time', start, value: 0 },
    ...(isDetail ? others : []).map(attributes => ({
      ...({ metric: 'sculptor.cpu.runqueue.wait', attributes, start } as const),
      value: one.waited,
    })),
  ];

  const tell = (one: MadeUp, isDetail: boolean, now: number): Uint8Array => {
    const seconds = one.isFast ? readIntervalSeconds : headlineIntervalSeconds;
    one.used += one.usedCores * seconds;
    one.waited += (one.isContended ? 0.3 : 0.002) * seconds;
    return writeMetrics(telling(one.resource), samplesOf(one, isDetail), now);
  };

  return {
    stepSeconds: readIntervalSeconds,
    step: now => {
      const nth = steps;
      steps += 1;
      const isHeadline = nth % every(headlineIntervalSeconds) === 0;
      const isDetail = nth > 0 && nth % every(detailIntervalSeconds) === 0;
      const parts = all.flatMap(one => (isHeadline || one.isFast ? tell(one, isDetail, now) : []));
      if (isHeadline) {
        const idle = idleModes.map(attributes => ({
          ...({ metric: 'system.cpu.time', attributes, start } as const),
          value: (now - start) * 0.1,
        }));
        parts.push(writeMetrics(telling(host), idle, now));
      }
      // At first all of them, then by turns.
      const from = (nth * perStep) % instances;
      const placed = nth === 0 ? all : all.slice(from, from + perStep);
      const events = placed.map(({ placement }) => placementEvent(placement));
      if (nth === 0)
        events.unshift(plainEvent('sculptor.topology', topologyOf(identity, allCpus), 'made up'));
      return {
        metrics: cut(parts),
        logs: cut(events.map(event => encode(event, now))),
      };
    },
  };
}

function madeUp(
  i: number,
  allCpus: readonly number[],
  identity: { readonly hostId: string; readonly hostName: string },
  mayBeFast: boolean,
): MadeUp {
  const path = [
    `/machine.slice/machine-qemu-${i}-vm.scope`,
    `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${i >> 1}.slice/cri-containerd-${i}.scope`,
    `/system.slice/service-${i}.service`,
  ][i % 3] as string;
  const instance = {
    id: path,
    kind: 'cgroup',
    name: path.slice(path.lastIndexOf('/') + 1),
  } as const;
  const isContended = i % contendedEach === 7;
  const effective =
    i % pinnedEach === 3
      ? [0, 1, 2, 3].map(each => (i + each) % allCpus.length).sort((a, b) => a - b)
      : [...allCpus];
  return {
    placement: {
      ...{ hostId: identity.hostId, instance, owner: 'systemd', alive: true },
      cgroup: {
        ...{ path, parent: path.slice(0, path.lastIndexOf('/')) },
        ...{ weight: 100, idle: false, quotaCores: null },
      },
      cpuset: { path, own: [], effective, parentEffective: [...allCpus] },
      tasks: Array.from({ length: tasksEach }, (_, k) => ({
        ...{ tid: 10_000 + i * tasksEach + k, tgid: 10_000 + i * tasksEach, startTicks: 1000 },
        ...{ name: 'task', affinity: effective, ownMask: false, cpu: effective[0] ?? 0 },
      })),
      taskCount: tasksEach,
    },
    resource: Object.freeze(instanceResource(identity, { instance, path })),
    isFast: isContended && mayBeFast,
    isContended,
    usedCores: isContended ? 0.35 : i % 4 === 0 ? 0.005 : 0.03 + ((i * 7) % 10) / 200,
    ...{ used: 0, waited: 0 },
  };
}

function topologyOf(
  identity: { readonly hostId: string; readonly hostName: string },
  allCpus: readonly number[],
): Topology {
  return {
    ...identity,
    ...{ kernel: '6.18', cgroupVersion: 2, nodes: [] },
    cpus: allCpus.map(id => ({ id, online: true, core: id >> 1, package: 0, llc: 0, node: 0 })),
  };
}

/** As an exporter does: as many together as a collector takes. */
function cut(parts: readonly Uint8Array[]): Buffer[] {
  const requests: Buffer[] = [];
  let [some, bytes]: [Uint8Array[], number] = [[], 0];
  for (const part of parts) {
    if (bytes + part.byteLength > maxRequestBytes) {
      requests.push(Buffer.concat(some));
      [some, bytes] = [[], 0];
    }
    some.push(part);
    bytes += part.byteLength;
  }
  if (some.length > 0) requests.push(Buffer.concat(some));
  return requests;
}
