/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What sched.bpf.c and src/agent/probes/sched.ts share; test/agent/probes holds the decoder against this layout's BTF.
 */
#ifndef SCULPTOR_SCHED_H
#define SCULPTOR_SCHED_H

#include <linux/types.h>

#include "include/latency_bounds.h"

/* Why a task is off its CPU and not runnable; throttling is told apart from these. */
enum blocked_reason {
	/* In io_schedule(): the kernel's own word for waiting for a device. */
	BLOCKED_IO,
	/* Uninterruptible (state D) for another reason: a lock within the kernel, a file system, a driver. */
	BLOCKED_UNINTERRUPTIBLE,
	/* In futex(2) with FUTEX_WAIT or a lock that inherits priority. */
	BLOCKED_LOCK,
	/* All else: a timer, a socket, a condition variable, a signal. */
	BLOCKED_SLEEP,
	BLOCKED_REASONS,
};

/* Totals of one cgroup on one CPU since it was first seen. */
struct instance_totals {
	__u64 run_ns;
	__u64 wait_ns;
	__u64 throttled_ns;
	__u64 blocked_ns[BLOCKED_REASONS];
	__u64 voluntary_switches;
	__u64 involuntary_switches;
	__u64 wakeups;
	__u64 migrations;
	__u64 node_migrations;
	/* By the kernel's own account, which looks who runs at each tick. */
	__u64 user_ns;
	__u64 kernel_ns;
	__u64 latency_count;
	__u64 latency_sum_ns;
	__u64 slots[LATENCY_SLOTS];
	/* Of sleeps that are not in blocked_ns yet: how many began here more than ended, and the sum of those ends less
	 * those beginnings, modulo 2^64. Each alone says nothing; see include/blocked.bpf.h. */
	__u64 sleepers[BLOCKED_REASONS];
	__u64 slept_ns[BLOCKED_REASONS];
};

/* The first of them over all CPUs, as `read_totals` writes it. */
struct totals_record {
	__u64 id;
	__u64 run_ns;
	__u64 wait_ns;
	__u64 throttled_ns;
};

/* Key of what tasks of one cgroup waited while those of another ran. */
struct pair {
	__u64 waiter;
	__u64 preemptor;
};

/* One task whose totals have changed, as `dump` and `dump_changed` write it. */
struct task_record {
	__u64 cgroup_id;
	__u64 start_boottime_ns;
	__u64 run_ns;
	__u64 wait_ns;
	__u64 throttled_ns;
	__u64 blocked_ns[BLOCKED_REASONS];
	__u64 voluntary_switches;
	__u64 involuntary_switches;
	__u64 migrations;
	__u64 node_migrations;
	/* By how much what it ran, waited and was throttled has grown since it was written out last. */
	__u64 grown_ns;
	/* Where it ran last. */
	__u64 cpu;
	__u32 tid;
	__u32 tgid;
	char comm[16];
};

/* What is kept of one CPU: what was counted there since the probe was loaded, and who has it. */
struct probe_stats {
	__u64 events;
	/* A task's storage could not be had: out of memory, or the hook met itself. */
	__u64 lost_task_storage;
	/* What could not be charged to its instance: the map is full, or there was no memory for another entry. */
	__u64 lost_instance_full;
	__u64 lost_instance_memory;
	/* Switches and wake-ups that no hook was shown, and that the scheduler's own account has put right. */
	__u64 recovered;
	/* A task was found where no switch that was seen had put it: what it did since is not charged. */
	__u64 lost_switch;
	/* The same, where process 1 had the CPU: a kernel may run no program then. */
	__u64 lost_withheld_switch;
	/* A wait could not be charged to anybody who ran meanwhile, known or not: both maps of pairs are full. */
	__u64 lost_pair;
	/* How long tasks waited for this CPU, whichever CPU charged it. */
	__u64 wait_ns;
	/* Of the task that the last switch seen here was to. */
	__u64 tgid;
	/* What the time is by our clock, less what it is by the run queue's, and when that was found. */
	__u64 clock_offset;
	__u64 compared_ns;
};

#endif
