/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What sched.bpf.c and src/agent/probes/sched.ts share; test/agent/probes holds the decoder against this layout's BTF.
 */
#ifndef SCULPTOR_SCHED_H
#define SCULPTOR_SCHED_H

#include "include/latency_bounds.h"

/* Totals of one cgroup on one CPU since it was first seen. */
struct instance_totals {
	__u64 run_ns;
	__u64 wait_ns;
	__u64 throttled_ns;
	__u64 migrations;
	__u64 latency_count;
	__u64 latency_sum_ns;
	__u64 slots[LATENCY_SLOTS];
};

/* One task whose totals have changed, as the `dump` iterator writes it. */
struct task_record {
	__u64 cgroup_id;
	__u64 start_boottime_ns;
	__u64 run_ns;
	__u64 wait_ns;
	__u64 throttled_ns;
	__u64 migrations;
	__u32 tid;
	__u32 tgid;
	char comm[16];
};

enum stat_slot {
	STAT_EVENTS,
	/* A task's storage could not be had: out of memory, or the hook met itself. */
	STAT_LOST_TASK_STORAGE,
	/* The map of instances is full. */
	STAT_LOST_INSTANCE_FULL,
	STAT_SLOTS,
};

#endif
