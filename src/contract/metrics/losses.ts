/**
 * Why something is not counted, by who says so: the reasons of `sculptor.agent.events.lost`. Those of a source have its name before them
 * (`faults_memory`), those of the first three groups nothing.
 */
export const losses = {
  scheduler: {
    task_storage: 'No memory for the state of a task: the event is not charged at all.',
    instance_map_full:
      'There are agent.maxInstances already: charged to the task, not to its instance.',
    instance_memory: 'No memory for one more instance: likewise.',
    pair: 'A wait is charged to nobody who ran meanwhile: no room, or no memory, for one more pair of instances.',
    unseen_switch:
      "A switch that was not seen, and is not in the scheduler's own account: what the task did up to the next one is not charged.",
    withheld_switch: 'The same, where the kernel shows no BPF program the switches from process 1.',
    recursion: 'A program was interrupted by an event of its own kind.',
  },
  bpftrace: {
    lost_events: 'Events that bpftrace could not take in time.',
    map_full: 'Keys that did not fit into a map.',
    helper_failed: 'Other helpers of BPF that failed.',
    text_lines: 'Lines that the script printed by itself.',
    line_too_long: 'Lines of more than 8 MiB.',
    malformed_lines: "Lines that are not bpftrace's JSON.",
    flooded_seconds: 'Seconds in which the script printed more than is read, and was held up.',
  },
  agent: {
    instance_unnamed:
      'Cgroups that had run and could not be named: gone before anybody looked, or with a name that is no UTF-8 (their own, or of one above).',
    failed_reads: 'Turns of reading that failed as a whole. What is cumulative is in the next.',
  },
  faults: {
    task_storage: 'No memory for the beginning of a fault.',
    map_full: 'The map of instances is full.',
    memory: 'No memory for one more instance.',
    recursion: 'A program was interrupted by an event of its own kind.',
    unnamed: 'Faults of cgroups that are no instance, or none any more.',
  },
  memory: { unread: 'Readings of the files of one instance that failed.' },
  block: {
    requests_full: 'Requests past those that can be followed at once.',
    unseen: 'Requests that began before the probe did, or whose beginning was not seen.',
    unfinished:
      'Requests whose end was not seen: the driver let go of them without one, or the kernel ran no BPF program just then. Found when their memory is used again.',
    map_full: 'The map of totals is full.',
    memory: 'No memory for one more of its entries.',
    recursion: 'A program was interrupted by an event of its own kind.',
    unnamed: 'Requests of cgroups that are no instance, or none any more.',
  },
  net: {
    socket_storage: 'Sockets that are not followed, for want of memory.',
    map_full: 'The map of instances is full.',
    memory: 'No memory for one more instance.',
    owner:
      'Connections that ended and whose owner was not known (such as one that nobody held any more when the probe was loaded), had gone, or could not be counted for.',
    recursion: 'A program was interrupted by an event of its own kind.',
    unnamed: 'Segments of cgroups that are no instance, or none any more.',
  },
  udp: {
    map_full: 'The map of instances is full.',
    memory: 'No memory for one more instance.',
    recursion: 'A program was interrupted by an event of its own kind.',
    unnamed: 'Calls of cgroups that are no instance, or none any more.',
  },
  taps: {
    descriptors_refused:
      'Looks at a VM that found nothing, since the descriptors of its QEMU may not be read (CAP_SYS_PTRACE is wanted).',
    too_many: 'Interfaces past 32 of a VM, at each reading.',
    unread: 'Readings of the interfaces of one VM that failed.',
  },
  kvm: {
    memory: 'Exits of vCPUs for whose state there was no memory.',
    recursion: 'A program was interrupted by an event of its own kind.',
  },
  vdisks: {
    unanswered: 'Questions that QEMU or libvirt did not answer.',
    too_many_drives: 'Drives past 16 of a VM, at each answer.',
  },
  dirty: { unanswered: 'Questions that QEMU did not answer.' },
  access: { refused: 'Measurements in which the kernel refused something.' },
  outliers: {
    not_told: 'Long waits that were lost; sculptor.agent.outliers has them by reason.',
  },
  custom: {
    files_unseen: 'Scripts in the folder past the first 256.',
    failed_looks: 'Looks at the folder that failed.',
  },
} as const satisfies Record<string, Record<string, string>>;

/** The reasons of one of them. */
export type Loss<Who extends keyof typeof losses> = keyof (typeof losses)[Who];

/** What a source's libbpf program did not count, or the script in its place. */
export type ProbeLosses<Who extends keyof typeof losses> =
  | Readonly<Record<Exclude<Loss<Who>, 'unnamed'>, number>>
  | Readonly<Record<Loss<'bpftrace'>, number>>;

/** What the gate does not let through: the reasons of `sculptor.gate.dropped`; the first word says what is counted. */
export const gateDrops = {
  connection_unknown: 'Of nobody: no instance of this host is known there.',
  connection_refused_user: 'The user at the other end of the unix socket is not among allowUsers.',
  connection_too_many: 'More at once than a guest may have (maxConnections), or than all may.',
  connection_too_many_guests: 'Of one more guest, while maxGuests are connected.',
  connection_nuisance:
    'Of a guest that was refused too much, connected too often, or sent far more bytes than it may say: cut off, or not let in yet.',
  connection_failed: 'It could not be taken, or not be found out whose it is.',
  request_malformed: 'Not OTLP.',
  request_too_large: 'More bytes than maxMessageBytes.',
  request_too_many_resources: 'More than maxResources.',
  request_too_many_records: 'More than maxRecords.',
  request_too_many_attributes: 'More than eight attributes for each of maxRecords.',
  request_over_rate:
    'The guest is past recordsPerSecond, maxCores, or 100 requests a second: it is told when to come again.',
  request_queue_full: 'Others of the guest wait already: it is told to come again.',
  request_over_share:
    'The guest has as much on the way to the endpoint as it may beside the others: it is told to come again.',
  request_endpoint_unavailable:
    'The endpoint did not take it now: the guest is told to come again.',
  request_endpoint_refused: 'The endpoint refused it for good.',
  request_failed: 'The gate failed at it: a defect.',
  request_unserved:
    'Of another service (traces, say), no gRPC that can be read, or given up before it was whole.',
  record_endpoint_rejected: 'The endpoint took the request without them.',
  record_too_many_series: 'Of series past maxSeries in ten minutes.',
  event_forbidden: 'Events sculptor.*, which a guest may not tell.',
} as const;

export type GateDrop = keyof typeof gateDrops;
