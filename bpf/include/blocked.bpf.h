/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Sleeps: why a task is off its CPU, from its last switch to its wake-up.
 *
 * Most tasks sleep most of the time, so an instance's sleeps are summed without a look at its sleepers. Who falls
 * asleep counts as one sleeper more and takes the time off a sum, who wakes counts as one less and adds the time to it;
 * so at any time t the sleeps have lasted sum + sleepers * t, whichever CPUs had a part in it. A read charges what of
 * that is not in blocked_ns yet.
 */
#ifndef SCULPTOR_BLOCKED_BPF_H
#define SCULPTOR_BLOCKED_BPF_H

#include "core_fixes.bpf.h"
#include "state.bpf.h"

/* include/linux/sched.h; the same since 4.14. */
#define TASK_UNINTERRUPTIBLE 0x2
#define TASK_DEAD	     0x80
#define TASK_NOLOAD	     0x400
#define PF_KTHREAD	     0x200000

/* Lowest bits of a sleep's word: an enum blocked_reason. The rest is when it began. */
#define REASON 3ULL
_Static_assert(BLOCKED_REASONS <= REASON + 1, "a reason has two bits");

/*
 * In the sums all times are so much later (36 years): a sum that was read while a hook had written half of what it
 * writes is off by no less, and told from one that holds.
 */
#define LATER (1ULL << 60)

static __always_inline bool has_ended(unsigned int task_state)
{
	return task_state & TASK_DEAD;
}

/* A kernel thread that idles is uninterruptible in form only: TASK_NOLOAD says so. */
static __always_inline __u64 reason_of(struct task_struct *task, unsigned int task_state)
{
	if (BPF_CORE_READ_BITFIELD(task, in_iowait))
		return BLOCKED_IO;
	if ((task_state & (TASK_UNINTERRUPTIBLE | TASK_NOLOAD)) == TASK_UNINTERRUPTIBLE)
		return BLOCKED_UNINTERRUPTIBLE;
	if (!(task->flags & PF_KTHREAD) && in_lock_wait(task))
		return BLOCKED_LOCK;
	return BLOCKED_SLEEP;
}

static __always_inline void count_sleep(struct instance_totals *totals, __u64 sleep)
{
	__sync_fetch_and_add(&totals->sleepers[sleep & REASON], 1);
	__sync_fetch_and_add(&totals->slept_ns[sleep & REASON], -((sleep & ~REASON) + LATER));
}

static __always_inline void count_waking(struct instance_totals *totals, __u64 reason, __u64 ended)
{
	__sync_fetch_and_add(&totals->sleepers[reason], -1);
	__sync_fetch_and_add(&totals->slept_ns[reason], ended + LATER);
}

/* Of the cgroup where the sleep began: a task can be moved while it sleeps. `totals` are those of `cgroup_id`. */
static __always_inline struct instance_totals *totals_of_sleep(__u64 sleeps_in, struct instance_totals *totals,
							       __u64 cgroup_id)
{
	struct instance_totals *other;

	if (sleeps_in == cgroup_id)
		return totals;
	other = bpf_map_lookup_elem(&instances, &sleeps_in);
	return other ? other : bpf_map_lookup_elem(&shared_instances, &sleeps_in);
}

/* What of a task's sleep was not charged to the task yet. */
static __always_inline void charge_sleep(struct task_state *state, __u64 sleep, __u64 until)
{
	__u64 began = sleep & ~REASON;

	if (until > began)
		__sync_fetch_and_add(&state->blocked_ns[sleep & REASON], until - began);
}

/* Whoever takes the word ends the sleep. The cgroup before it: one from after it may be of the next sleep. */
static __always_inline bool take_sleep(struct task_state *state, __u64 *sleep, __u64 *sleeps_in)
{
	*sleep = *(volatile __u64 *)&state->sleep;
	*sleeps_in = *(volatile __u64 *)&state->sleeps_in;
	return *sleep && __sync_val_compare_and_swap(&state->sleep, *sleep, 0) == *sleep;
}

/*
 * The sleep of a task that has been woken: up to its wake-up, which began its wait, or up to now where no wake-up was
 * seen. Ended when it gets a CPU, or by a read before that; so a wake-up costs nothing more.
 */
static __always_inline void end_sleep(struct task_state *state, struct instance_totals *totals, __u64 cgroup_id,
				      bool woken, __u64 now)
{
	__u64 sleep, sleeps_in, ended = woken ? state->wait_began_ns : now;
	struct instance_totals *counted_in;

	/* A read may move the word along, once. */
	if (!take_sleep(state, &sleep, &sleeps_in) && !take_sleep(state, &sleep, &sleeps_in))
		return;
	/* A read has charged it a moment longer. */
	if (ended < (sleep & ~REASON))
		ended = sleep & ~REASON;
	charge_sleep(state, sleep, ended);
	counted_in = sleeps_in ? totals_of_sleep(sleeps_in, totals, cgroup_id) : NULL;
	if (counted_in)
		count_waking(counted_in, sleep & REASON, ended);
	if (totals)
		__sync_fetch_and_add(&totals->wakeups, 1);
}

static __always_inline void begin_sleep(struct task_struct *task, struct task_state *state,
					struct instance_totals *totals, __u64 cgroup_id, unsigned int task_state,
					__u64 now)
{
	__u64 sleep = (now & ~REASON) | reason_of(task, task_state), other;

	state->sleeps_in = totals ? cgroup_id : 0;
	if (totals)
		count_sleep(totals, sleep);
	other = __sync_lock_test_and_set(&state->sleep, sleep);
	/* A read has found it asleep just before us. */
	if (other && totals)
		count_waking(totals, other & REASON, now);
}

/* One who slept before the hooks were there, or in another cgroup: it sleeps from now on, unless it wakes meanwhile. */
static __always_inline void adopt_sleeper(struct task_struct *task, struct task_state *state, __u64 now)
{
	__u64 sleep = (now & ~REASON) | reason_of(task, task->__state), cgroup_id = cgroup_of(task);
	struct instance_totals *totals = totals_by_id(cgroup_id);

	state->sleeps_in = totals ? cgroup_id : 0;
	if (__sync_val_compare_and_swap(&state->sleep, 0, sleep) != 0)
		return;
	if (totals)
		count_sleep(totals, sleep);
	/* It has woken, or ended, since it was looked at: nobody else would take it back. */
	if (is_asleep(task) && !*(volatile int *)&task->exit_state)
		return;
	if (__sync_val_compare_and_swap(&state->sleep, sleep, 0) == sleep && totals)
		count_waking(totals, sleep & REASON, sleep & ~REASON);
}

/* One who was moved to another cgroup while it slept, or that no cgroup could count. */
static __always_inline void move_sleeper(struct task_struct *task, struct task_state *state, __u64 cgroup_id, __u64 now)
{
	struct instance_totals *before;
	__u64 sleep, sleeps_in;

	if (!take_sleep(state, &sleep, &sleeps_in))
		return;
	charge_sleep(state, sleep, now);
	before = sleeps_in ? totals_of_sleep(sleeps_in, NULL, cgroup_id) : NULL;
	if (before)
		count_waking(before, sleep & REASON, now);
	adopt_sleeper(task, state, now);
}

/* Charges the task for what its sleep has lasted since it was last charged, and sees that its cgroup counts it. */
static __always_inline void charge_open_sleep(struct task_struct *task, struct task_state *state)
{
	__u64 cgroup_id = cgroup_of(task), sleep, until;

	/* The word first: a look at the task, or a time, from before it would not belong to it. */
	sleep = *(volatile __u64 *)&state->sleep;
	until = bpf_ktime_get_ns() & ~REASON;
	if (!is_asleep(task)) {
		if (sleep && is_wait(state->stamp))
			end_sleep(state, totals_by_id(cgroup_id), cgroup_id, true, until);
		return;
	}
	if (!sleep)
		adopt_sleeper(task, state, until);
	else if (state->sleeps_in != cgroup_id)
		move_sleeper(task, state, cgroup_id, until);
	else if (until > sleep && __sync_val_compare_and_swap(&state->sleep, sleep, until | (sleep & REASON)) == sleep)
		charge_sleep(state, sleep, until);
}

#endif
