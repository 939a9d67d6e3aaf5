/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What is kept of a task and of its cgroup, and where. */
#ifndef SCULPTOR_STATE_BPF_H
#define SCULPTOR_STATE_BPF_H

#include "throttled.bpf.h"
#include "totals.bpf.h"

/* The histogram of latencies alone, with nothing that it does not need: what the benchmark compares with other tools.
 */
const volatile bool only_latency = false;
/* For whom a wait was. */
const volatile bool with_preemptors = true;

/* In the order of the cache lines: what each switch takes, what a sleep or a throttled wait adds, and the rest. */
struct task_state {
	/* When the open interval began, or was last charged up to; at most NOTHING_OPEN: none is. */
	__u64 stamp;
	/* When the present wait began, whatever has been charged of it. */
	__u64 wait_began_ns;
	/* Throttled part of the present wait. */
	__u64 wait_throttled_ns;
	/* From when on the present wait was not yet charged to who ran meanwhile; 0: nothing is open. */
	__u64 preempted_from_ns;
	/* When the present sleep began, or was last charged up to, with its reason; 0: none is open. */
	__u64 sleep;
	__u64 run_ns;
	__u64 wait_ns;
	struct throttle_account throttling;
	/* The cgroup that counts that sleep; 0: none does. */
	__u64 sleeps_in;
	__u64 blocked_ns[BLOCKED_REASONS];
	__u64 voluntary_switches;
	__u64 involuntary_switches;
	__u64 throttled_ns;
	__u64 migrations;
	__u64 node_migrations;
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

static __always_inline struct task_state *state_of(struct task_struct *task)
{
	struct task_state *state = bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!state)
		count(lost_task_storage);
	return state;
}

static __always_inline struct instance_totals *totals_of(struct task_struct *task)
{
	return totals_by_id(cgroup_of(task));
}

#endif
