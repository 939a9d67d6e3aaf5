import { attr } from '../attributes.ts';
import { counter, gauge, histogram, of } from './spec.ts';

export const memoryMetrics = of('memory', {
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
    [attr.faultType],
  ),
  'sculptor.memory.pages': gauge(
    'By',
    'instance',
    'Its pages on each memory node, by kind (anon, file, hugetlb; cgroup v1: mlocked ones as unevictable).',
    [attr.memoryNode, attr.memoryKind],
  ),
  'sculptor.memory.local': gauge(
    '1',
    'instance',
    'Chance that a page of it is on the memory node on which it runs: over nodes, its share of pages times its share of run time since the reading before. Where there are two nodes or more.',
  ),
  'sculptor.memory.dirty': gauge(
    'By',
    'instance',
    'File pages that wait to be written, or are being written. Not how fast memory is written to: sculptor.memory.dirty_rate.',
  ),
  'sculptor.memory.refaults': counter(
    '{page}',
    'instance',
    'By kind (anon, file): pages that were reclaimed and needed again. Also of the host.',
    [attr.memoryKind],
  ),
  'sculptor.memory.reclaim.scanned': counter(
    '{page}',
    'instance',
    'Pages looked at for reclaim, by reclaimer: direct (its tasks wait for it) or background. On cgroup v2, and of the host.',
    [attr.reclaimer],
  ),
  'sculptor.memory.reclaim.reclaimed': counter(
    '{page}',
    'instance',
    'Pages taken from it, by reclaimer. On cgroup v2, and of the host.',
    [attr.reclaimer],
  ),
  'sculptor.memory.numa.hint_faults': counter(
    '{fault}',
    'instance',
    'Faults by which NUMA balancing learns where memory is used, where there are two nodes or more: of instances where the kernel counts them by cgroup, and of the host.',
  ),
  'sculptor.memory.numa.migrations': counter(
    '{page}',
    'instance',
    'Pages that NUMA balancing moved, where there are two nodes or more: of instances where the kernel counts them by cgroup, and of the host.',
  ),
  'sculptor.pressure.time': counter(
    's',
    'instance',
    'Stall time (PSI) by resource, of some or of all (full) of its tasks. The kernel has it by CPU and averages over those that were in use: where others run on another CPU meanwhile, or who waits moves between CPUs, it is less than the time that was waited. On cgroup v2, and of the host.',
    [attr.pressureResource, attr.pressureKind],
  ),
  'system.paging.faults': counter(
    '{fault}',
    'host',
    'Page faults by type since the agent was started.',
    [attr.faultType],
  ),
});

export const dirtyMetrics = of('dirty', {
  'sculptor.memory.dirty_rate': gauge(
    'By/s',
    'instance',
    'Of a VM: how fast its guest writes to its own memory, as QEMU estimates it over one second in each minute: by the pages, of 512 sampled in each GiB, that hold something else at its end. In steps of 1 MiB/s; a sampled page stands for 2 MiB. A page counts once, however often it was written to, and not at all where it holds again what it held. Reads are not seen. Where somebody else has QEMU measure, by his time and method. Nothing once the last estimate is three minutes old (agent.placementIntervalSeconds is the minute).',
  ),
});

export const accessMetrics = of('access', {
  'sculptor.memory.referenced': gauge(
    'By',
    'instance',
    "What was used of its memory within 10 s, reads too: the mean of some five such windows in a row, once a minute; less often where there are more than 20 instances: of 200 each is measured every 10 minutes. Of a VM: by its guest, or its QEMU. Of any other: by the one process that has at least nine tenths of what its processes have in memory (VmRSS); where none has, where they have less than 16 MiB, and where its mappings are more than a hundred times as long as what is in memory, nothing is told (sculptor.agent.access.unknown); what that process shares with others, of other instances too, counts. File pages that it has not mapped are not in it. By the accessed bits of 500 sampled pages in each window, those in KVM's second-level page tables too (DAMON): an estimate, with a standard error of at most 1 % of what the process has mapped, without what it only reserves; memory that the host backs by huge pages counts by these. What came into memory during that minute counts as used, and so may what is in memory of mappings that are newer: of a program that maps and unmaps all the time this is too much rather than too little. Nothing while somebody else has DAMON, nor once the last estimate is three rounds old.",
  ),
  'sculptor.memory.idle': gauge(
    'By',
    'instance',
    'What is in memory of the process in question and was not used within 10 s: resident - sculptor.memory.referenced, of the same time. What was never touched, or is swapped out, is not in it, nor are file pages that are not mapped.',
  ),
});

export const faultsMetrics = of('faults', {
  'sculptor.memory.fault.latency': histogram(
    's',
    'instance',
    'By type: from the exception of a page fault until it is handled. Not those without an exception (get_user_pages, KVM): the faults of guests under KVM are not measured one by one, and `sculptor.vcpu.exit.time` of `nested_page_fault` has their sum.',
    [attr.faultType],
  ),
});
