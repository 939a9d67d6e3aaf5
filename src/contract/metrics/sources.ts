/** Where the agent's metrics come from: the hook in the kernel or the file, and what asking costs (measured as docs/decisions say). */
export const sources = {
  sched: {
    hook: 'tp_btf: sched_switch, sched_wakeup, sched_wakeup_new, sched_migrate_task; at each read those that woke, over all tasks once a minute (before Linux 6.2 at each read)',
    cost: 'net ns a call: switch 476-595, wake-up 79-96, migration 360-552 where nobody else uses the cores; some 0.2-0.4 ms a read beside 10,000 threads of which 2,000 wake; 3-6 ms where it is over all of them',
  },
  faults: {
    hook: 'tp_btf: page_fault_user, page_fault_kernel; software events minor-faults and major-faults',
    cost: 'net ns a fault: 54 at its beginning, 98 at its end; with the event 0.3-0.55 µs',
  },
  memory: {
    hook: 'files of the memory and hugetlb controllers, of PSI, and /proc/vmstat',
    cost: '8-10 ms every 10 s for 200 instances (cgroup v1)',
  },
  block: {
    hook: 'tp_btf: block_rq_insert, block_rq_issue, block_rq_requeue, block_rq_merge, block_rq_complete',
    cost: 'ns a request, with some 60 of an empty program each: insert 450, issue 145, complete 405; 0.5 ms a read for 10 keys',
  },
  net: {
    hook: "tp_btf: inet_sock_set_state; iterator over the followed sockets every second, over all tasks' files every minute",
    cost: 'nothing for a packet; 0.2 µs a change of state (some five a connection); 0.5 µs a second and connection, and never more than 0.2 % of a CPU',
  },
  udp: {
    hook: 'tp_btf: sock_send_length, sock_recv_length (from Linux 6.3); in profile `full` only',
    cost: 'net ns: 80 a call on a socket of UDP, 1-3 on any other; with each some 50 of an empty program; 32 B a CPU and instance',
  },
  taps: {
    hook: '/sys/class/net/TAP/statistics, or /proc/QEMU/net/dev of those in its network namespace; which taps and macvtaps a VM has: the descriptors of its QEMU every minute',
    cost: '0.1 ms a tap every 10 s; 0.7 ms a QEMU every minute',
  },
  vdisks: {
    hook: "query-blockstats of QEMU's monitor (QMP); where that is libvirt's alone, libvirt's read-only socket (virsh domstats)",
    cost: 'one question every 10 s and VM, on a timer of its own; of libvirt one run of virsh every 10 s for all VMs: 28-34 ms of a CPU, and 0.6 ms of it and 1.6 ms of libvirtd a VM, measured while others used the cores',
  },
  dirty: {
    hook: "calc-dirty-rate and query-dirty-rate of QEMU's monitor (QMP)",
    cost: "some 3 ms of a CPU for each GiB of a VM once a minute, 8 VMs at a time, in a thread of QEMU's that the guest does not wait for: 512 pages of each GiB are read and hashed, twice. Those that are swapped out come back",
  },
  access: {
    hook: "DAMON's kdamonds, by /sys/kernel/mm/damon/admin: what is mapped by a VM's QEMU, or by the process that has nearly all of an instance's memory (iter/task_vma)",
    cost: 'some 7 ms of a CPU each 10 s for an instance that is measured, in the emulated laboratory, where all is at least eight times slower: for a minute each, 20 at once, so at most 1.4 % of a CPU there; and a thousand small writes to begin with each, at most one in 3 s: 0.9 s there for the first; 500 pages of each are looked at in 10 s, whatever its size. Once in 3 s VmRSS of the processes of one instance, or of up to four, of at most 128 each: some 4 ms for so many. Not measured elsewhere',
  },
  kvm: {
    hook: 'tp_btf: kvm_entry, kvm_exit, kvm_vcpu_wakeup, kvm_userspace_exit (where KVM is loaded)',
    cost: 'net ns a call: exit 183-185, entry 90-99, end of a halt 95-96, way to QEMU 22-27; measured on other hooks of KVM, of a vCPU whose instructions it emulates (docs/decisions/0006-vcpus.md). What a guest that ran in between adds, by what it put out of the caches, is not measured',
  },
  guests: {
    hook: 'what the agents in guests send through the gate',
    cost: 'a search in each request; those of details are decoded',
  },
  steal: { hook: '/proc/stat, within a guest', cost: 'one file every 10 s' },
  host: { hook: '/proc/stat', cost: 'one file every second' },
  outliers: {
    hook: 'tp_btf: sched_switch, sched_waking, sched_wakeup, sched_wakeup_new, sched_migrate_task, and beginning and end of interrupts (irq_handler), timers (hrtimer_expire) and softirqs; only where agent.outliers asks',
    cost: 'nothing while nobody asks; else net ns a call: switch 90, wake-up (two programs) 160, a timer or a softirq (two) 20; on a slower machine, without these two, switch 300, wake-up 420',
  },
  cost: {
    hook: 'fdinfo and BPF_OBJ_GET_INFO_BY_FD of the maps and programs, getrusage, /proc/self/stat',
    cost: '0.9 ms every 10 s for some 50 maps and programs',
  },
  agent: { hook: 'the agent itself', cost: 'none of its own' },
  gate: { hook: 'the gate for guests', cost: 'none of its own' },
  intake: { hook: 'the intake of engine and sculptor', cost: 'none of its own' },
} as const satisfies Record<string, { readonly hook: string; readonly cost: string }>;

export type SourceName = keyof typeof sources;
