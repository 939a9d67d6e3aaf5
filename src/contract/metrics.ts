/** Attribute keys of resources and points. */
export const attr = {
  serviceName: 'service.name',
  serviceInstanceId: 'service.instance.id',
  hostId: 'host.id',
  hostName: 'host.name',
  instanceId: 'sculptor.instance.id',
  instanceKind: 'sculptor.instance.kind',
  instanceName: 'sculptor.instance.name',
  containerId: 'container.id',
  threadId: 'thread.id',
  threadName: 'thread.name',
  processId: 'process.pid',
  taskStartTicks: 'sculptor.task.start_ticks',
  vcpuIndex: 'sculptor.vcpu.index',
  cpu: 'cpu.logical_number',
  cpuMode: 'cpu.mode',
  reason: 'sculptor.reason',
  horizon: 'horizon',
  quantile: 'quantile',
  payload: 'sculptor.payload',
  signature: 'sculptor.signature',
  mode: 'sculptor.mode',
} as const;

type MetricSpec = {
  readonly unit: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** Headline series go out every second (200 ms while contended); the rest every 10 s. */
  readonly headline: boolean;
  readonly of: 'instance' | 'task' | 'host' | 'self';
  readonly description: string;
};

/** Every metric of the product; names follow the semantic conventions where one means the same. */
export const metrics = {
  'container.cpu.time': {
    unit: 's',
    type: 'counter',
    headline: true,
    of: 'instance',
    description: 'Time its tasks ran on a CPU.',
  },
  'sculptor.runqueue.wait': {
    unit: 's',
    type: 'counter',
    headline: true,
    of: 'instance',
    description: 'Time its tasks were runnable and not running, without bandwidth throttling.',
  },
  'sculptor.cpu.throttled.time': {
    unit: 's',
    type: 'counter',
    headline: true,
    of: 'instance',
    description: 'Time its tasks were kept from running by a CFS bandwidth quota.',
  },
  'sculptor.runqueue.latency': {
    unit: 's',
    type: 'histogram',
    headline: false,
    of: 'instance',
    description: 'From runnable to running, each time a task got a CPU (throttled time taken off).',
  },
  'sculptor.cpu.migrations': {
    unit: '{migration}',
    type: 'counter',
    headline: false,
    of: 'instance',
    description: 'Moves of its tasks from one CPU to another.',
  },
  'sculptor.task.cpu.time': {
    unit: 's',
    type: 'counter',
    headline: false,
    of: 'task',
    description: 'Time a hot task ran. Never to be added to the totals of its instance.',
  },
  'sculptor.task.runqueue.wait': {
    unit: 's',
    type: 'counter',
    headline: false,
    of: 'task',
    description: 'Time a hot task was runnable and not running.',
  },
  'sculptor.task.throttled.time': {
    unit: 's',
    type: 'counter',
    headline: false,
    of: 'task',
    description: 'Time a hot task was kept from running by a quota.',
  },
  'sculptor.task.migrations': {
    unit: '{migration}',
    type: 'counter',
    headline: false,
    of: 'task',
    description: 'Moves of a hot task from one CPU to another.',
  },
  'system.cpu.time': {
    unit: 's',
    type: 'counter',
    headline: true,
    of: 'host',
    description: 'Time of each logical CPU by mode (idle and steal).',
  },
  'sculptor.agent.events': {
    unit: '{event}',
    type: 'counter',
    headline: false,
    of: 'self',
    description: 'Scheduler events that the probes handled.',
  },
  'sculptor.agent.events.lost': {
    unit: '{event}',
    type: 'counter',
    headline: false,
    of: 'self',
    description:
      'What was not counted, by reason: a full map, a failed storage allocation, a dead task, a late sample.',
  },
  'sculptor.agent.exports.lost': {
    unit: '{export}',
    type: 'counter',
    headline: false,
    of: 'self',
    description: 'Exports that were refused or given up, by reason.',
  },
  'sculptor.agent.map.entries': {
    unit: '{entry}',
    type: 'gauge',
    headline: false,
    of: 'self',
    description: 'Entries in the map of instances, of its largest number.',
  },
  'sculptor.agent.instances.uncounted': {
    unit: '{instance}',
    type: 'gauge',
    headline: false,
    of: 'self',
    description: 'Contended instances past the 20 worst, which are exported at 1 s only.',
  },
  'sculptor.agent.collect.time': {
    unit: 's',
    type: 'counter',
    headline: false,
    of: 'self',
    description: 'Time spent reading the maps.',
  },
  'sculptor.samples.lost': {
    unit: '{sample}',
    type: 'counter',
    headline: false,
    of: 'self',
    description:
      'Samples that the engine or the sculptor (service.name) received and could not use, by reason, such as late or not-finite.',
  },
} as const satisfies Record<string, MetricSpec>;

export type MetricName = keyof typeof metrics;

/** The series the planner and the verification stand on. */
export const headlineMetrics = [
  'container.cpu.time',
  'sculptor.runqueue.wait',
  'sculptor.cpu.throttled.time',
] as const;

/** Scope name of everything that a part of this product emits; a part never takes its own scope for input. */
export const scopes = {
  agent: 'sculptor.agent',
  engine: 'sculptor.engine',
  sculptor: 'sculptor.sculptor',
} as const;

export const schemaUrl = 'https://opentelemetry.io/schemas/1.38.0';
