/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What of a wait was none for a CPU, since a quota held the task back: by its run queue's own account. */
#ifndef SCULPTOR_THROTTLED_BPF_H
#define SCULPTOR_THROTTLED_BPF_H

#include "core_fixes.bpf.h"

/* The run queue whose account of throttled time is followed, and how far of it has been charged. */
struct throttle_account {
	__u64 queue;
	__u64 base_ns;
};

/* From here on, in a hook that sees a wait begin. */
static __always_inline void follow_throttling(struct throttle_account *account, struct task_struct *task)
{
	struct cfs_rq *queue = task->se.cfs_rq;

	account->queue = (__u64)queue;
	account->base_ns = throttled_time_now(queue);
}

/* In the hook that sees a waiting task leave its queue for that of another CPU, once the wait so far is charged. */
static __always_inline void follow_other_queue(struct throttle_account *account, struct task_struct *task,
					       int destination)
{
	struct cfs_rq **queues = task->sched_task_group->cfs_rq, *queue;

	if (bpf_probe_read_kernel(&queue, sizeof(queue), &queues[destination]) != 0 || !queue)
		return;
	account->queue = (__u64)queue;
	account->base_ns = throttled_time_of_other(queue);
}

/*
 * What of the slice since the last charge was throttled. `held`: the task is held back at this very moment, so that all
 * of the slice was (it must run before it can be held again).
 */
static __always_inline __u64 throttled_part(struct throttle_account *account, struct task_struct *task, __u64 slice_ns,
					    bool held)
{
	struct cfs_rq *queue = task->se.cfs_rq;
	__u64 total, throttled = 0;

	if (held) {
		account->base_ns += slice_ns;
		return slice_ns;
	}
	total = throttled_time(queue);
	/* Of another queue (the task's cgroup was changed) nothing is known of before: followed from here on. */
	if (account->queue == (__u64)queue && total > account->base_ns)
		throttled = total - account->base_ns;
	if (account->queue != (__u64)queue || throttled) {
		account->queue = (__u64)queue;
		account->base_ns = total;
	}
	return throttled < slice_ns ? throttled : slice_ns;
}

#endif
