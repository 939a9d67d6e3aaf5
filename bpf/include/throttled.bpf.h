/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What of a wait was none for a CPU, since a quota held the task back: by its run queue's own account. */
#ifndef SCULPTOR_THROTTLED_BPF_H
#define SCULPTOR_THROTTLED_BPF_H

#include "core_fixes.bpf.h"

/* The run queue whose account of throttled time is followed, how far of it has been charged, and its clock then. */
struct throttle_account {
	__u64 queue;
	__u64 base_ns;
	__u64 clock_ns;
};

/* From here on what that queue's account grows by is the task's. */
static __always_inline void follow_queue(struct throttle_account *account, struct cfs_rq *queue, __u64 charged_ns,
					 __u64 clock_ns)
{
	account->queue = (__u64)queue;
	account->base_ns = charged_ns;
	account->clock_ns = clock_ns;
}

/* In a hook that sees a wait begin. */
static __always_inline void follow_throttling(struct throttle_account *account, struct task_struct *task)
{
	struct cfs_rq *queue = task->se.cfs_rq;

	follow_queue(account, queue, throttled_time_now(queue), throttled_clock(queue));
}

/* In the hook that sees a waiting task leave its queue for that of another CPU, once the wait so far is charged. */
static __always_inline void follow_other_queue(struct throttle_account *account, struct task_struct *task,
					       int destination)
{
	struct cfs_rq **queues = task->sched_task_group->cfs_rq, *queue;

	if (bpf_probe_read_kernel(&queue, sizeof(queue), &queues[destination]) == 0 && queue)
		follow_queue(account, queue, throttled_time_of_other(queue), throttled_clock_of_other(queue));
}

/* A slice of a task that is held back is charged as throttled: the account, which is told when that ends, has it too.
 */
static __always_inline void follow_held(struct throttle_account *account, struct task_struct *task, __u64 slice_ns)
{
	if (throttled_by_pelt(task->se.cfs_rq))
		follow_throttling(account, task);
	else
		account->base_ns += slice_ns;
}

/*
 * What of the slice since the last charge was throttled. `held`: the task is held back at this very moment, so that all
 * of the slice was (it must run before it can be held again).
 */
static __always_inline __u64 throttled_part(struct throttle_account *account, struct task_struct *task, __u64 slice_ns,
					    bool held)
{
	struct cfs_rq *queue = task->se.cfs_rq;
	__u64 total, clock, throttled = 0;

	if (held) {
		follow_held(account, task, slice_ns);
		return slice_ns;
	}
	total = throttled_time(queue);
	clock = throttled_clock(queue);
	/* Of another queue (the task's cgroup was changed) nothing is known of before: followed from here on. */
	if (account->queue == (__u64)queue && total > account->base_ns)
		throttled = throttled_share(total - account->base_ns, clock - account->clock_ns, slice_ns);
	if (account->queue != (__u64)queue || throttled || clock)
		follow_queue(account, queue, total, clock);
	return throttled;
}

#endif
