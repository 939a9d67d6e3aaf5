/** Attribute keys of resources and points. */
export const attr = {
  serviceName: 'service.name',
  serviceInstanceId: 'service.instance.id',
  hostId: 'host.id',
  hostName: 'host.name',
  instanceId: 'sculptor.instance.id',
  instanceKind: 'sculptor.instance.kind',
  instanceName: 'sculptor.instance.name',
  /** `guest`: said by an instance of itself, and let in by the gate. Absent: measured by the host. */
  origin: 'sculptor.origin',
  guestInstanceId: 'sculptor.guest.instance.id',
  guestInstanceKind: 'sculptor.guest.instance.kind',
  guestInstanceName: 'sculptor.guest.instance.name',
  guestHostId: 'sculptor.guest.host.id',
  guestHostName: 'sculptor.guest.host.name',
  containerId: 'container.id',
  threadId: 'thread.id',
  threadName: 'thread.name',
  processId: 'process.pid',
  taskStartTicks: 'sculptor.task.start_ticks',
  vcpuIndex: 'sculptor.vcpu.index',
  exitReason: 'sculptor.vcpu.exit_reason',
  cpu: 'cpu.logical_number',
  cpuMode: 'cpu.mode',
  faultType: 'system.paging.fault.type',
  memoryNode: 'sculptor.memory.node',
  memoryKind: 'sculptor.memory.kind',
  reclaimer: 'sculptor.memory.reclaimer',
  pressureResource: 'sculptor.pressure.resource',
  pressureKind: 'sculptor.pressure.kind',
  preemptor: 'sculptor.preemptor',
  switchType: 'process.context_switch.type',
  reason: 'sculptor.reason',
  source: 'sculptor.agent.source',
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

const of =
  (type: MetricSpec['type'], headline = false) =>
  (unit: string, subject: MetricSpec['of'], description: string): MetricSpec => ({
    unit,
    type,
    headline,
    of: subject,
    description,
  });

const counter = of('counter');
const gauge = of('gauge');
const histogram = of('histogram');
const headline = of('counter', true);

/** Every metric of the product; names follow the semantic conventions where one means the same. */
export const metrics = {
  'container.cpu.time': headline('s', 'instance', 'Time its tasks ran on a CPU.'),
  'sculptor.runqueue.wait': headline(
    's',
    'instance',
    'Time its tasks were runnable and not running, without bandwidth throttling.',
  ),
  'sculptor.cpu.throttled.time': headline(
    's',
    'instance',
    'Time its tasks were kept from running by a CFS bandwidth quota.',
  ),
  'sculptor.runqueue.latency': histogram(
    's',
    'instance',
    'From runnable to running, each time a task got a CPU (throttled time taken off).',
  ),
  'sculptor.runqueue.wait.by_preemptor': counter(
    's',
    'instance',
    'sculptor.runqueue.wait by the instance that ran on the CPU meanwhile: the 5 largest of late by id (the instance itself is one where its own tasks wait for each other), `other`, and `none` (the CPU was idle and woke). A neighbour counts while it is among the 5. Never to be added to sculptor.runqueue.wait.',
  ),
  'sculptor.cpu.time': counter(
    's',
    'instance',
    'Time its tasks ran, by `cpu.mode` (user, kernel): container.cpu.time, divided as the ticks of the kernel found it.',
  ),
  'sculptor.offcpu.time': counter(
    's',
    'instance',
    'Time its tasks were off the CPU and did not want it, by reason: io (in io_schedule), uninterruptible (state D otherwise: locks within the kernel, drivers), lock (futex wait), sleep (all else); and throttled.',
  ),
  'sculptor.cpu.context_switches': counter(
    '{context_switch}',
    'instance',
    'How often its tasks left a CPU, voluntary or involuntary (still runnable).',
  ),
  'sculptor.cpu.wakeups': counter(
    '{wakeup}',
    'instance',
    'How often its tasks were woken from a sleep.',
  ),
  'sculptor.cpu.migrations': counter(
    '{migration}',
    'instance',
    'Moves of its tasks from one CPU to another.',
  ),
  'sculptor.cpu.node_migrations': counter(
    '{migration}',
    'instance',
    'Those of its migrations that went to a CPU of another memory node.',
  ),
  'container.memory.usage': gauge(
    'By',
    'instance',
    'Memory charged to it (cgroup v1: anonymous memory and page cache; v2: memory.current, with what the kernel holds for it).',
  ),
  'container.memory.working_set': gauge(
    'By',
    'instance',
    'Its memory without file pages that were not used again: usage - inactive_file. An estimate: it counts idle anonymous memory.',
  ),
  'container.memory.paging.faults': counter(
    '{fault}',
    'instance',
    'Page faults by type, as the memory controller counts them.',
  ),
  'sculptor.memory.fault.latency': histogram(
    's',
    'instance',
    'By type: from the exception of a page fault until it is handled. Not those without an exception (get_user_pages, KVM).',
  ),
  'sculptor.memory.pages': gauge(
    'By',
    'instance',
    'Its pages on each memory node, by kind (anon, file, hugetlb; cgroup v1: mlocked ones as unevictable).',
  ),
  'sculptor.memory.local': gauge(
    '1',
    'instance',
    'Chance that a page of it is on the memory node on which it runs: over nodes, its share of pages times its share of run time since the reading before. Where there are two nodes or more.',
  ),
  'sculptor.memory.dirty': gauge(
    'By',
    'instance',
    'File pages that wait to be written, or are being written. Not how fast memory is written to.',
  ),
  'sculptor.memory.refaults': counter(
    '{page}',
    'instance',
    'By kind (anon, file): pages that were reclaimed and needed again. Also of the host.',
  ),
  'sculptor.memory.reclaim.scanned': counter(
    '{page}',
    'instance',
    'Pages looked at for reclaim, by reclaimer: direct (its tasks wait for it) or background. On cgroup v2, and of the host.',
  ),
  'sculptor.memory.reclaim.reclaimed': counter(
    '{page}',
    'instance',
    'Pages taken from it, by reclaimer. On cgroup v2, and of the host.',
  ),
  'sculptor.memory.numa.hint_faults': counter(
    '{fault}',
    'instance',
    'Faults by which NUMA balancing learns where memory is used: where the kernel counts them by cgroup, and of the host.',
  ),
  'sculptor.memory.numa.migrations': counter(
    '{page}',
    'instance',
    'Pages that NUMA balancing moved: where the kernel counts them by cgroup, and of the host.',
  ),
  'sculptor.pressure.time': counter(
    's',
    'instance',
    'Stall time (PSI) by resource, of some or of all (full) of its tasks. On cgroup v2, and of the host.',
  ),
  'system.paging.faults': counter(
    '{fault}',
    'host',
    'Page faults by type since the agent was started.',
  ),
  'sculptor.task.cpu.time': counter(
    's',
    'task',
    'Time a hot task ran. Never to be added to the totals of its instance.',
  ),
  'sculptor.task.runqueue.wait': counter(
    's',
    'task',
    'Time a hot task was runnable and not running.',
  ),
  'sculptor.task.throttled.time': counter(
    's',
    'task',
    'Time a hot task was kept from running by a quota.',
  ),
  'sculptor.task.offcpu.time': counter(
    's',
    'task',
    'Time a hot task was off the CPU and did not want it, by reason, as sculptor.offcpu.time.',
  ),
  'sculptor.task.context_switches': counter(
    '{context_switch}',
    'task',
    'How often a hot task left a CPU, voluntary or involuntary.',
  ),
  'sculptor.task.migrations': counter(
    '{migration}',
    'task',
    'Moves of a hot task from one CPU to another.',
  ),
  'sculptor.task.node_migrations': counter(
    '{migration}',
    'task',
    'Those that went to a CPU of another memory node.',
  ),
  'sculptor.vcpu.exits': counter(
    '{exit}',
    'task',
    'How often a vCPU under KVM left its guest, by reason: words for what the CPU tells, the same for AMD and Intel where it is the same.',
  ),
  'sculptor.vcpu.exit.time': counter(
    's',
    'task',
    'From an exit to the next entry, by reason of the exit, without halts and waits in the run queue: handled in KVM or in QEMU.',
  ),
  'sculptor.vcpu.halts': counter(
    '{halt}',
    'task',
    'How often a vCPU under KVM was halted, since its guest had nothing to do.',
  ),
  'sculptor.vcpu.halt.time': counter(
    's',
    'task',
    'Time that a vCPU was halted, with what KVM polled meanwhile; it ends when its thread is woken.',
  ),
  'sculptor.vcpu.wakeups': counter(
    '{wakeup}',
    'task',
    'How often a vCPU entered its guest after a halt.',
  ),
  'sculptor.vcpu.wakeup.time': counter(
    's',
    'task',
    'Delay of those entries: the wait of its thread in the run queue since it was woken, and from running to the entry. Overlaps with the wait and with the time of its exits.',
  ),
  'sculptor.vcpu.steal': counter(
    's',
    'host',
    'Within a guest: time that a vCPU of its own wanted to run and the hypervisor ran others.',
  ),
  'system.cpu.time': headline('s', 'host', 'Time of each logical CPU by mode (idle and steal).'),
  'sculptor.agent.events': counter('{event}', 'self', 'Scheduler events that the probes handled.'),
  'sculptor.agent.events.lost': counter(
    '{event}',
    'self',
    'What was not counted, by reason: a full map, a failed storage allocation, a dead task, a late sample.',
  ),
  'sculptor.agent.exports.lost': counter(
    '{export}',
    'self',
    'Exports that were refused or given up, by reason.',
  ),
  'sculptor.agent.map.entries': gauge(
    '{entry}',
    'self',
    'Entries in the map of instances, of its largest number.',
  ),
  'sculptor.agent.instances.uncounted': gauge(
    '{instance}',
    'self',
    'Contended instances past the 20 worst, which are exported at 1 s only.',
  ),
  'sculptor.agent.vcpus.unknown': gauge(
    '{instance}',
    'self',
    'VMs of which it is not known which threads run their vCPUs, by reason.',
  ),
  'sculptor.agent.source.available': gauge(
    '1',
    'self',
    'By source of metrics: 1 while it runs; 0, with the reason, where this kernel or configuration refused it.',
  ),
  'sculptor.agent.collect.time': counter('s', 'self', 'Time spent reading the maps and the files.'),
  'sculptor.gate.records': counter(
    '{record}',
    'self',
    'Points and log records of guests that were delivered.',
  ),
  'sculptor.gate.dropped': counter(
    '{item}',
    'self',
    'Connections, requests, records and events of guests that were not let through, by reason, which begins with what is counted.',
  ),
  'sculptor.samples.lost': counter(
    '{sample}',
    'self',
    'Samples that the engine or the sculptor (service.name) received and could not use, by reason, such as late or not-finite.',
  ),
} as const satisfies Record<string, MetricSpec>;

export type MetricName = keyof typeof metrics;

/** Value of `attr.origin` of everything that came through the gate. */
export const guestOrigin = 'guest';

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
