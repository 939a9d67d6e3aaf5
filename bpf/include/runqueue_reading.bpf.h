/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What runqueue.bpf.c is asked, by BPF_PROG_RUN: iterators take BTF. The kernel is not preempted meanwhile. */
#ifndef SCULPTOR_RUNQUEUE_READING_BPF_H
#define SCULPTOR_RUNQUEUE_READING_BPF_H

#include "awake.bpf.h"
#include "core_fixes.bpf.h"
#include "sums.bpf.h"

/* Charges what is open of a task up to now, as far as task_struct bears it out: else a hook is about to speak. */
static __always_inline void charge_open(struct interval *open, struct task_struct *task, __u64 stamp)
{
	bool on_cpu = other_is_on_cpu(task, is_run(stamp));
	struct instance_totals *totals;
	__u64 now = (bpf_ktime_get_ns() & ~WAITING) | (stamp & WAITING);

	if (is_run(stamp) != on_cpu || (!on_cpu && !other_is_queued(task)) || now <= stamp)
		return;
	totals = totals_by_id(cgroup_of_other(task));
	if (totals && __sync_val_compare_and_swap(&open->stamp, stamp, now) == stamp)
		__sync_fetch_and_add(is_wait(stamp) ? &totals->wait_ns : &totals->run_ns, time_since(stamp, now));
}

/* These are verified one by one, so that loops around them stay small. */
__noinline int charge_tid(__u32 tid)
{
	struct interval *open = bpf_map_lookup_elem(&intervals, &tid);
	struct task_struct *task;
	__u64 stamp;

	if (!open)
		return 0;
	stamp = *(volatile __u64 *)&open->stamp;
	if (stamp <= NOTHING_OPEN)
		return 0;
	task = (void *)open->task;
	/* It has ended unseen, or has another tid. */
	if (BPF_CORE_READ(task, pid) != tid) {
		count(lost_switch);
		bpf_map_delete_elem(&intervals, &tid);
		return 0;
	}
	mark_awake(tid);
	charge_open(open, task, stamp);
	return 0;
}

__noinline int charge_word(__u32 first_tid, __u64 bits)
{
	for (__u32 i = 0; i < 64; i++)
		if (bits & (1ULL << i))
			charge_tid(first_tid + i);
	return 0;
}

static long charge_block(__u32 key, void *unused)
{
	struct awake_block *block = bpf_map_lookup_elem(&awake, &key);

	if (!block)
		return 1;
	if (!*(volatile __u64 *)&block->any)
		return 0;
	__sync_lock_test_and_set(&block->any, 0);
	for (__u32 i = 0; i < BLOCK_WORDS; i++) {
		__u64 bits = take_awake(block, i);

		if (bits)
			charge_word(key * BLOCK_TIDS + i * 64, bits);
	}
	return 0;
}

/* Charges what is open, sums each instance over the CPUs, and answers how many there are. */
SEC("raw_tp")
int runqueue_read(void *ctx)
{
	__u32 count = 0;

	bpf_loop(MOST_TIDS / BLOCK_TIDS, charge_block, NULL, 0);
	sum_instances(&count);
	return count;
}

/*
 * Whether fields lie where the file has them, of the task that asks and of its cgroup, which helpers know without it:
 * libbpf cannot tell whether a file is of the kernel that runs.
 */
SEC("raw_tp")
int runqueue_fits(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 ids = bpf_get_current_pid_tgid();

	return BPF_CORE_READ(task, pid) == (__u32)ids && BPF_CORE_READ(task, tgid) == ids >> 32 &&
	       BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id) == bpf_get_current_cgroup_id() &&
	       other_is_on_cpu(task, true) && BPF_CORE_READ(task, on_rq) == 1;
}

#endif
