/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What outliers.bpf.c and src/agent/probes/outliers.ts share; test/agent/probes holds the decoder against this layout's
 * BTF. */
#ifndef SCULPTOR_OUTLIERS_H
#define SCULPTOR_OUTLIERS_H

#include <linux/types.h>

#define STACK_FRAMES 16

/* A thread as it was then; tid 0: nobody. */
struct party {
	__u64 cgroup_id;
	__u32 tid;
	__u32 tgid;
	char comm[16];
};

enum wait_began {
	BEGAN_WOKEN,
	BEGAN_PREEMPTED,
	/* Its quota was used up, and nobody has taken the CPU from it. */
	BEGAN_THROTTLED,
};

/* A wait for a CPU that was longer than asked for. */
struct outlier {
	/* CLOCK_MONOTONIC at its end. */
	__u64 ended_ns;
	__u64 latency_ns;
	/* How long, between beginning and end and besides, a quota held it back. */
	__u64 throttled_ns;
	__u64 start_boottime_ns;
	struct party waiter;
	/* Nobody: it did not sleep, or an interrupt has woken it. */
	struct party waker;
	/* Who left the CPU that the waiter then got; nobody: it was idle. */
	struct party preemptor;
	/* enum wait_began */
	__u32 began;
	__u32 padding;
	__u32 cpu;
	/* Of what follows; negative: it could not be had. */
	__s32 stack_bytes;
	/* The kernel stack on which the preemptor left, innermost first. */
	__u64 stack[STACK_FRAMES];
};

/* Since the probe was loaded, on one CPU. */
struct outlier_stats {
	__u64 found;
	/* Past what its instance may tell in a second. */
	__u64 limited;
	/* The map of those that were not read yet is full. */
	__u64 full;
	/* A task's storage, or the budget of an instance, could not be had. */
	__u64 memory;
};

#endif
