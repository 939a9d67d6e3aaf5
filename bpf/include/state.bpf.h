/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What is kept of a task and of its cgroup, and where. */
#ifndef SCULPTOR_STATE_BPF_H
#define SCULPTOR_STATE_BPF_H

#include "instance.bpf.h"
#include "../sched.h"

/* Lowest bit of a stamp: the interval is one of waiting, else of running. */
#define WAITING 1ULL
/* Stamps up to here are no time: 0, nothing is known of the task yet; this one, it sleeps or has ended. */
#define NOTHING_OPEN 1ULL

static __always_inline bool is_wait(__u64 stamp)
{
	return stamp > NOTHING_OPEN && (stamp & WAITING);
}

static __always_inline bool is_run(__u64 stamp)
{
	return stamp > NOTHING_OPEN && !(stamp & WAITING);
}

/* The histogram of latencies alone, with nothing that it does not need: what the benchmark compares with other tools.
 */
const volatile bool only_latency = false;
/* For whom a wait was. */
const volatile bool with_preemptors = true;

/* CONFIG_NR_CPUS is at most this on x86-64; a power of two. */
#define MOST_CPUS 8192

struct task_state {
	/* When the open interval began, or was last charged up to; at most NOTHING_OPEN: none is. */
	__u64 stamp;
	/* When the present wait began, whatever has been charged of it. */
	__u64 wait_began_ns;
	/* Throttled part of the present wait. */
	__u64 wait_throttled_ns;
	/* From when on the present wait was not yet charged to who ran meanwhile; 0: nothing is open. */
	__u64 preempted_from_ns;
	/* The run queue whose account of throttled time is followed, and how far of it has been charged. */
	__u64 throttled_queue;
	__u64 throttled_base_ns;
	__u64 run_ns;
	__u64 wait_ns;
	__u64 throttled_ns;
	__u64 migrations;
	__u64 node_migrations;
	/* When the present sleep began, or was last charged up to; 0: none is open. */
	__u64 slept_ns;
	/* An enum blocked_reason: of that sleep. */
	__u64 blocked_reason;
	__u64 blocked_ns[BLOCKED_REASONS];
	__u64 voluntary_switches;
	__u64 involuntary_switches;
	/* Of the kernel's account of user and kernel time: what was charged to the instance. */
	__u64 charged_user_ns;
	__u64 charged_kernel_ns;
	/* Sum of the totals when they were last written out. */
	__u64 dumped;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_state);
} tasks SEC(".maps");

/* Allocated as instances come: 1.3 KB each and CPU, and none for those that a host could have and has not. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct instance_totals);
} instances SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct probe_stats);
} stats SEC(".maps");

/* How long tasks waited for each CPU, whichever CPU charges it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MOST_CPUS);
	__type(key, __u32);
	__type(value, __u64);
} wait_by_cpu SEC(".maps");

static const struct instance_totals no_totals;

/* The memory node of each CPU. */
const volatile __u16 node_of_cpu[MOST_CPUS];

#define count(field)                                                                                                   \
	do {                                                                                                           \
		__u32 zero = 0;                                                                                        \
		struct probe_stats *here = bpf_map_lookup_elem(&stats, &zero);                                         \
                                                                                                                       \
		if (here)                                                                                              \
			here->field += 1;                                                                              \
	} while (0)

static __always_inline struct task_state *state_of(struct task_struct *task)
{
	struct task_state *state = bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!state)
		count(lost_task_storage);
	return state;
}

static __always_inline struct instance_totals *totals_by_id(__u64 id)
{
	struct instance_totals *totals = bpf_map_lookup_elem(&instances, &id);
	long error;

	if (totals)
		return totals;
	error = bpf_map_update_elem(&instances, &id, &no_totals, BPF_NOEXIST);
	totals = bpf_map_lookup_elem(&instances, &id);
	if (totals)
		return totals;
	if (error == -E2BIG)
		count(lost_instance_full);
	else
		count(lost_instance_memory);
	return NULL;
}

static __always_inline struct instance_totals *totals_of(struct task_struct *task)
{
	return totals_by_id(cgroup_of(task));
}

#endif
