import { engineConfigSchema } from '../../src/contract/config.ts';
import type { Placement, Topology } from '../../src/contract/host.ts';
import type { InstancePolicy } from '../../src/contract/policy.ts';
import { policySchema } from '../../src/contract/policy.ts';
import type { ModelIdentity } from '../../src/contract/recommendation.ts';
import type { ResourcePoints } from '../../src/contract/telemetry.ts';
import { type Core, createCore } from '../../src/pae/core.ts';
import { createIntake } from '../../src/pae/intake.ts';

export const model: ModelIdentity = { name: 'test', version: '1', sha256: '0'.repeat(64) };

/** What an instance of the stream does all the time, in cores. */
export type Load = { used: number; wait?: number; throttled?: number };

export type StreamInstance = {
  id: string;
  load: Load;
  /** null: the cpu controller is not enabled for it. */
  weight?: number | null;
  cpus?: number[];
  cpusetPath?: string | null;
  tasks?: number;
  /** Of its cgroup, where that is not its id. */
  path?: string;
  quotaCores?: number;
};

export function topology(cpus: number): Topology {
  return {
    hostId: 'host',
    hostName: 'host',
    kernel: 'test',
    cgroupVersion: 1,
    cpus: Array.from({ length: cpus }, (_, id) => ({
      id,
      online: true,
      core: id,
      package: 0,
      llc: 0,
      node: 0,
    })),
    nodes: [],
  };
}

export function placement(instance: StreamInstance, allCpus: number[]): Placement {
  const cpus = instance.cpus ?? allCpus;
  const path = instance.path ?? instance.id;
  return {
    hostId: 'host',
    instance: { id: instance.id, kind: 'cgroup', name: instance.id },
    owner: 'none',
    alive: true,
    cgroup: {
      path,
      parent: path === '/' ? null : path.slice(0, path.lastIndexOf('/')) || '/',
      weight: instance.weight === undefined ? 100 : instance.weight,
      idle: false,
      quotaCores: instance.quotaCores ?? null,
    },
    cpuset: {
      path: instance.cpusetPath ?? '/',
      own: cpus,
      effective: cpus,
      parentEffective: allCpus,
    },
    tasks: Array.from({ length: instance.tasks ?? 1 }, (_, i) => ({
      tid: 1000 + i,
      tgid: 1000,
      startTicks: 1,
      name: 'task',
      affinity: allCpus,
      ownMask: false,
      cpu: 0,
    })),
    taskCount: instance.tasks ?? 1,
  };
}

/** A core that knows the host, and a function that feeds `seconds` of 200 ms samples and judges each as it arrives. */
export function startStream(
  instances: StreamInstance[],
  rules: Partial<InstancePolicy>[],
  cpuCount = 2,
  idle: number[] = [],
) {
  let ids = 0;
  const nextId = () => {
    ids += 1;
    return ids;
  };
  const core: Core = createCore({
    config: engineConfigSchema.parse({}),
    model,
    newId: () => `00000000-0000-4000-8000-${String(nextId()).padStart(12, '0')}`,
  });
  const cpus = Array.from({ length: cpuCount }, (_, i) => i);
  core.host.topology = topology(cpuCount);
  core.host.policy = policySchema.parse({ instances: rules });
  for (const instance of instances)
    core.host.placements.set(instance.id, placement(instance, cpus));
  for (const cpu of cpus) core.host.idle.set(cpu, idle.includes(cpu) ? 1 : 0);
  const intake = createIntake(core);
  let now = 1_000_000;
  const totals = new Map(
    instances.map(instance => [instance.id, { used: 0, wait: 0, throttled: 0 }]),
  );
  const run = (seconds: number) => {
    const outputs = [];
    for (let i = 0; i < Math.round(seconds * 5); i += 1) {
      now += 0.2;
      const resources = instances.map(instance =>
        advance(instance, totals.get(instance.id) ?? { used: 0, wait: 0, throttled: 0 }, now),
      );
      // As one export: the observations of all are in before any is judged.
      outputs.push(core.judge(now, intake.metrics(resources)));
    }
    return {
      recommendations: outputs.flatMap(output => output.recommendations),
      withdrawals: outputs.flatMap(output => output.withdrawals),
    };
  };
  return { core, intake, run, now: () => now };
}

function advance(
  { id, load }: StreamInstance,
  total: { used: number; wait: number; throttled: number },
  now: number,
): ResourcePoints {
  total.used += load.used * 0.2;
  total.wait += (load.wait ?? 0) * 0.2;
  total.throttled += (load.throttled ?? 0) * 0.2;
  return resourcePoints(id, now, total);
}

export function resourcePoints(
  id: string,
  now: number,
  total: { used: number; wait: number; throttled: number },
  start = 999_000,
): ResourcePoints {
  const point = (metric: string, value: number) => ({
    metric,
    unit: 's',
    type: 'sum' as const,
    monotonic: true,
    temporality: 'cumulative' as const,
    attributes: {},
    start,
    time: now,
    value,
  });
  return {
    resource: { 'sculptor.instance.id': id, 'sculptor.instance.kind': 'cgroup' },
    points: [
      point('container.cpu.time', total.used),
      point('sculptor.runqueue.wait', total.wait),
      point('sculptor.cpu.throttled.time', total.throttled),
    ],
  };
}
