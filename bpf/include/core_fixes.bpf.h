/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Where kernels differ. Nothing outside this file asks which kernel it runs on. */
#ifndef SCULPTOR_CORE_FIXES_BPF_H
#define SCULPTOR_CORE_FIXES_BPF_H

#include "kernel.bpf.h"

/*
 * Time that a run queue has spent throttled by a CFS bandwidth quota, in ns, completed periods only.
 * throttled_clock_self_time came with 6.6 (677ea015f231, "sched: add throttled time stat for throttled children");
 * before, the account that PELT keeps is the only one of a queue.
 */
static __always_inline __u64 throttled_time(struct cfs_rq *cfs_rq)
{
	if (bpf_core_field_exists(cfs_rq->throttled_clock_self_time))
		return cfs_rq->throttled_clock_self_time;
	if (bpf_core_field_exists(cfs_rq->throttled_clock_pelt_time))
		return cfs_rq->throttled_clock_pelt_time;
	return 0;
}

/* The same of a run queue that the verifier knows nothing of. */
static __always_inline __u64 throttled_time_of_other(struct cfs_rq *cfs_rq)
{
	if (bpf_core_field_exists(cfs_rq->throttled_clock_self_time))
		return BPF_CORE_READ(cfs_rq, throttled_clock_self_time);
	if (bpf_core_field_exists(cfs_rq->throttled_clock_pelt_time))
		return BPF_CORE_READ(cfs_rq, throttled_clock_pelt_time);
	return 0;
}

/* Whether that account goes by PELT's clock, which goes the slower the lower a CPU's frequency is (23127296889f). */
static __always_inline bool throttled_by_pelt(struct cfs_rq *cfs_rq)
{
	return !bpf_core_field_exists(cfs_rq->throttled_clock_self_time) &&
	       bpf_core_field_exists(cfs_rq->throttled_clock_pelt_time);
}

/* That clock, as of the queue's last update; 0 where the account goes by a clock like ours. */
static __always_inline __u64 throttled_clock(struct cfs_rq *cfs_rq)
{
	return throttled_by_pelt(cfs_rq) ? cfs_rq->rq->clock_pelt - cfs_rq->rq->lost_idle_time : 0;
}

static __always_inline __u64 throttled_clock_of_other(struct cfs_rq *cfs_rq)
{
	if (!throttled_by_pelt(cfs_rq))
		return 0;
	return BPF_CORE_READ(cfs_rq, rq, clock_pelt) - BPF_CORE_READ(cfs_rq, rq, lost_idle_time);
}

/* The same and the period that is open now; the run queue's clock must be fresh (within a scheduler hook). */
static __always_inline __u64 throttled_time_now(struct cfs_rq *cfs_rq)
{
	__u64 total = throttled_time(cfs_rq), began = 0, clock = 0;

	if (bpf_core_field_exists(cfs_rq->throttled_clock_self)) {
		began = cfs_rq->throttled_clock_self;
		clock = cfs_rq->rq->clock;
	} else if (throttled_by_pelt(cfs_rq) && cfs_rq->throttle_count) {
		began = cfs_rq->throttled_clock_pelt;
		clock = throttled_clock(cfs_rq);
	}
	return began && clock > began ? total + clock - began : total;
}

/*
 * What of a slice was throttled, if the account grew by so much in it, and its clock went on by `clock_ns` (0: as
 * ours): by PELT's clock it is the share that counts, in 4096ths.
 */
static __always_inline __u64 throttled_share(__u64 throttled_ns, __u64 clock_ns, __u64 slice_ns)
{
	if (throttled_ns >= (clock_ns ? clock_ns : slice_ns))
		return slice_ns;
	return clock_ns ? slice_ns * (throttled_ns / ((clock_ns >> 12) + 1)) >> 12 : throttled_ns;
}

/* The clock of a task's run queue, of this moment within a scheduler hook. */
static __always_inline __u64 queue_clock(struct task_struct *task)
{
	return task->se.cfs_rq->rq->clock;
}

/*
 * By that clock: when a task came to a CPU last, and since when it has been on its present run queue, 0: it is on none;
 * 0 too where the kernel does not tell (CONFIG_SCHED_INFO).
 */
static __always_inline __u64 last_arrival(struct task_struct *task)
{
	return bpf_core_field_exists(task->sched_info.last_arrival) ? task->sched_info.last_arrival : 0;
}

static __always_inline __u64 last_queued(struct task_struct *task)
{
	return bpf_core_field_exists(task->sched_info.last_queued) ? task->sched_info.last_queued : 0;
}

/* How long a task was runnable and not running, ever, but for the wait that is open; 0 where the kernel does not count
 * it (CONFIG_SCHED_INFO). */
static __always_inline __u64 queued_ns(struct task_struct *task)
{
	if (!bpf_core_field_exists(task->sched_info.run_delay))
		return 0;
	return BPF_CORE_READ(task, sched_info.run_delay);
}

/*
 * Whether a runnable task is held back by a quota at this moment. From 6.18 each task is taken off its run queue
 * (e1fad12dcb66, "sched/fair: Switch to task based throttle model"); before, the whole run queue stood still.
 */
static __always_inline bool is_throttled(struct task_struct *task)
{
	if (bpf_core_field_exists(task->throttled))
		return task->throttled;
	/* Without CONFIG_CFS_BANDWIDTH nothing is ever held back. */
	if (bpf_core_field_exists(task->se.cfs_rq->throttle_count))
		return BPF_CORE_READ(task, se.cfs_rq, throttle_count) > 0;
	return false;
}

/*
 * Whether a task on a run queue is asleep in truth: from 6.12 a sleeper may stay queued until its lag is used up
 * (152e11f6df29, "sched/fair: Implement delayed dequeue").
 */
static __always_inline bool is_asleep_on_queue(struct task_struct *task)
{
	return bpf_core_field_exists(task->se.sched_delayed) && task->se.sched_delayed;
}

static __always_inline bool is_asleep(struct task_struct *task)
{
	return !task->on_cpu && (!task->on_rq || is_asleep_on_queue(task));
}

/* The same of tasks that the verifier knows nothing of. A kernel for one CPU keeps no on_cpu: what was seen holds. */
static __always_inline bool other_is_on_cpu(struct task_struct *task, bool seen)
{
	return bpf_core_field_exists(task->on_cpu) ? BPF_CORE_READ(task, on_cpu) != 0 : seen;
}

static __always_inline bool other_is_queued(struct task_struct *task)
{
	if (bpf_core_field_exists(task->se.sched_delayed) && BPF_CORE_READ(task, se.sched_delayed))
		return false;
	return BPF_CORE_READ(task, on_rq) != 0;
}

/*
 * Whether the task asked for a mask of its own: 1, 0, or -1 where the kernel does not tell. The field came with 5.15,
 * but only from 6.2 on does sched_setaffinity(2) keep what was asked for in it (8f9ea86fdf99, "sched: Always preserve
 * the user requested cpumask"); struct affinity_context came with that.
 */
static __always_inline int own_mask(struct task_struct *task)
{
	if (!bpf_core_type_exists(struct affinity_context) || !bpf_core_field_exists(task->user_cpus_ptr))
		return -1;
	return task->user_cpus_ptr != 0;
}

/* Where the mask is that the task asked for; 0: it has none, or the kernel does not tell. */
static __always_inline __u64 asked_mask(struct task_struct *task)
{
	__u64 mask = 0;

	if (own_mask(task) == 1)
		bpf_core_read(&mask, sizeof(mask), &task->user_cpus_ptr);
	return mask;
}

/* The CPU whose queue a task is on; thread_info has it on x86 from 5.16 on (bcf9033e5449). */
static __always_inline __u32 cpu_of(struct task_struct *task)
{
	return task->thread_info.cpu;
}

static __always_inline __u32 cpu_of_other(struct task_struct *task)
{
	return bpf_core_field_exists(task->thread_info.cpu) ? BPF_CORE_READ(task, thread_info.cpu) : 0;
}

/* From 6.2 on (3f0e6f2b41d3, "bpf: Add bpf_task_from_pid() kfunc"). */
extern struct task_struct *bpf_task_from_pid(__s32 pid) __ksym __weak;
extern void bpf_task_release(struct task_struct *task) __ksym __weak;

/* Whether a task can be found by its tid. */
static __always_inline bool can_find_tasks(void)
{
	return bpf_task_from_pid != 0;
}

#define FUTEX_WAIT     0
#define FUTEX_LOCK_PI  6
#define FUTEX_LOCK_PI2 13
/* Without FUTEX_PRIVATE_FLAG and FUTEX_CLOCK_REALTIME. */
#define FUTEX_COMMAND	0x7f
#define X86_SYS_FUTEX	202
#define ARM64_SYS_FUTEX 98

/*
 * Whether a thread that sleeps waits for a lock, by the system call it is in. glibc takes its mutexes by FUTEX_WAIT or
 * FUTEX_LOCK_PI; its condition variables and semaphores wait by FUTEX_WAIT_BITSET, and are none.
 */
static __always_inline bool in_lock_wait(struct task_struct *task)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	__u64 command;

	if (bpf_core_field_exists(regs->orig_ax)) {
		if (regs->orig_ax != X86_SYS_FUTEX)
			return false;
		command = regs->si & FUTEX_COMMAND;
	} else {
		struct pt_regs___arm64 *arm = (struct pt_regs___arm64 *)regs;

		if (!bpf_core_field_exists(arm->syscallno) || arm->syscallno != ARM64_SYS_FUTEX)
			return false;
		command = arm->user_regs.regs[1] & FUTEX_COMMAND;
	}
	return command == FUTEX_WAIT || command == FUTEX_LOCK_PI || command == FUTEX_LOCK_PI2;
}

/* 13 on 6.1, 7 on 6.12 and later; the enumeration has had this name since 6.0. */
enum req_op {
	REQ_OP_ZONE_APPEND = 7,
};

static __always_inline __u32 zone_append(void)
{
	return bpf_core_enum_value(enum req_op, REQ_OP_ZONE_APPEND);
}

#endif
