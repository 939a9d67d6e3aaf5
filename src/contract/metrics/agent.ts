import { attr } from '../attributes.ts';
import { counter, gauge, headline, of } from './spec.ts';

export const hostMetrics = of('host', {
  'system.cpu.time': headline('s', 'host', 'Time of each logical CPU by mode (idle and steal).', [
    attr.cpu,
    attr.cpuMode,
  ]),
});

export const agentMetrics = of('agent', {
  'sculptor.agent.events': counter(
    '{event}',
    'self',
    'Scheduler events that the probes handled. Absent with `agent.driver: bpftrace`, whose script is asked for times.',
  ),
  'sculptor.agent.events.recovered': counter(
    '{event}',
    'self',
    "Switches and wake-ups that no hook was shown, charged by the scheduler's own account of the task. Not lost, but for those of a refused task storage, which count in both.",
  ),
  'sculptor.agent.events.lost': counter(
    '{event}',
    'self',
    'What was not counted, by reason (docs/metrics.md lists them).',
    [attr.reason],
  ),
  'sculptor.agent.exports.lost': counter(
    '{export}',
    'self',
    'Exports that were refused or given up, by reason; too_large: for one series that takes more than a collector does.',
    [attr.reason],
  ),
  'sculptor.agent.profiles.lost': counter(
    '{profile}',
    'self',
    'Performance Profiles that could not be written to where --profile-to says, by reason.',
    [attr.reason],
  ),
  'sculptor.agent.instances.uncounted': gauge(
    '{instance}',
    'self',
    'Contended instances past the agent.fastInstances worst (20 by default): they are told with the headline series only.',
  ),
  'sculptor.agent.vcpus.unknown': gauge(
    '{instance}',
    'self',
    'VMs of which it is not known which threads run their vCPUs, by reason.',
    [attr.reason],
  ),
  'sculptor.agent.vms.unknown': gauge(
    '{instance}',
    'self',
    'QEMUs that are not told as VMs, by reason: shared_cgroup (several are in one, or one without a UUID has other cgroups below its own), root_cgroup (it is in the root, with whatever else was placed nowhere), taken_uuid (it says that it is a VM whose QEMU runs elsewhere).',
    [attr.reason],
  ),
  'sculptor.agent.vdisks.unknown': gauge(
    '{instance}',
    'self',
    'VMs of which it is not known what their drives did, by reason: no_qemu, no_qmp (no socket to ask at, nor libvirt and its virsh), qmp_silent (it did not answer), libvirt_silent (libvirt was not reached, did not answer in time, or works on the domain), libvirt_unknown (qemu:///system has no such domain).',
    [attr.reason],
  ),
  'sculptor.agent.interfaces.unknown': gauge(
    '{instance}',
    'self',
    'VMs with interfaces that are not told, by reason: descriptors_refused (CAP_SYS_PTRACE is wanted), devices_refused (CAP_DAC_READ_SEARCH too, where there are macvtaps), third_namespace (neither ours nor that of QEMU); and by the arguments of QEMU vhost_user, vdpa, vfio (a network controller) and user (slirp, passt).',
    [attr.reason],
  ),
  'sculptor.agent.dirty_rate.unknown': gauge(
    '{instance}',
    'self',
    'VMs of which it was not told, when it was last asked, how fast their memory is written to, by reason: no_qemu, no_qmp, qmp_silent (as for drives), qmp_refused (by a QEMU before 5.2), qmp_busy (somebody else was measuring), would_grow (its memory is shared or of huge pages, and not allocated beforehand: sampling would).',
    [attr.reason],
  ),
  'sculptor.agent.access.unknown': gauge(
    '{instance}',
    'self',
    'Instances of which it was not told, when it was last their turn, what of their memory is used, by reason: no_qemu (of a VM), hidden (/proc does not show its processes: hidepid), spread (no process has nine tenths of what all have in memory, or there are more than 128), too_small (they have less than 16 MiB), ended (the process did, while it was measured), too_sparse (its mappings, without what is only reserved, are more than a hundred times as long as what is in memory of them, and samples would hit too little), damon_busy (somebody else has taken DAMON meanwhile), damon_refused (the kernel refused something).',
    [attr.reason],
  ),
  'sculptor.agent.source.available': gauge(
    '1',
    'self',
    'By source of metrics: 1 while it runs; 0, with the reason, where this kernel or configuration refused it, or its bpftrace has ended and waits to be begun again, or compiles (`starting`).',
    [attr.source, attr.reason],
  ),
  'sculptor.agent.probe.available': gauge(
    '1',
    'self',
    'By custom probe: 1 while it runs; 0, with the code of the error, where it is refused, or has ended and waits to be begun again.',
    [attr.probe, attr.reason],
  ),
  'sculptor.agent.probe.restarts': counter(
    '{restart}',
    'self',
    'By custom probe: how often its bpftrace ended by itself and was begun again.',
    [attr.probe],
  ),
  'sculptor.agent.probe.lost': counter(
    '{event}',
    'self',
    'By custom probe: what was not counted, by reason (docs/custom-probes.md lists them).',
    [attr.probe, attr.reason],
  ),
  'sculptor.agent.collect.time': counter(
    's',
    'self',
    'What the turns of reading took, by the clock: the totals of the scheduler, the sources that were due, placements, and writing the exports. Not what sources ask on timers of their own (connections, QEMU, libvirt, files of memory by turns); process.cpu.time has all.',
  ),
});

export const costMetrics = of('cost', {
  'process.memory.usage': gauge(
    'By',
    'self',
    "What the agent's process has in memory (RSS); of `sculpt up` with the engine and the sculptor, and without each bpftrace that it runs.",
  ),
  'process.cpu.time': counter(
    's',
    'self',
    'What the same process has run, by mode (user and system); what BPF programs took of others is not in it, nor what bpftrace took.',
    [attr.cpuMode],
  ),
  'sculptor.agent.bpf.memory': gauge(
    'By',
    'self',
    "BPF maps and programs of the agent, as the kernel tells it (memlock): without what each task and socket carries, 448 B a task for the scheduler's probe; before Linux 6.4 what maps would take if they were full. Those of bpftrace's scripts are not in it, nor in the runs below.",
  ),
  'sculptor.agent.bpf.runs': counter(
    '{run}',
    'self',
    'Runs of all BPF programs of the agent that the kernel counted. Absent unless it counts them now (kernel.bpf_stats_enabled, or BPF_ENABLE_STATS), which the agent never makes it do: each run of any program costs more then.',
  ),
  'sculptor.agent.bpf.run.time': counter(
    's',
    'self',
    'What these runs took. Those of iterators are in process.cpu.time too, all others are time of whoever ran. Absent as the runs are.',
  ),
  'sculptor.agent.map.entries': gauge(
    '{entry}',
    'self',
    'By BPF map: entries at the last reading; pairs, other_pairs and outliers are emptied by each. Only of maps that are read whole: nobody counts the entries of others, such as the requests of block I/O under way, and what a full one did not take is in sculptor.agent.events.lost all the same.',
    [attr.map],
  ),
  'sculptor.agent.map.limit': gauge(
    '{entry}',
    'self',
    'By BPF map: how many entries there may be.',
    [attr.map],
  ),
});

export const outliersMetrics = of('outliers', {
  'sculptor.agent.outliers': counter(
    '{outlier}',
    'self',
    'Waits for a CPU past agent.outliers.aboveSeconds by what became of them: told as events, limited (past what an instance may tell), or lost (full, memory, and excess: more than 256 in half a second, or while stacks of those before still got their names).',
    [attr.reason],
  ),
});
