/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Sleeps: why a task is off its CPU, from its last switch to its wake-up. */
#ifndef SCULPTOR_BLOCKED_BPF_H
#define SCULPTOR_BLOCKED_BPF_H

#include "core_fixes.bpf.h"
#include "state.bpf.h"

/* include/linux/sched.h; the same since 4.14. */
#define TASK_UNINTERRUPTIBLE 0x2
#define TASK_DEAD	     0x80
#define TASK_NOLOAD	     0x400
#define PF_KTHREAD	     0x200000

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

static __always_inline void begin_sleep(struct task_struct *task, struct task_state *state, unsigned int task_state,
					__u64 now)
{
	state->blocked_reason = reason_of(task, task_state);
	state->slept_ns = now;
}

static __always_inline void charge_sleep(struct task_state *state, struct instance_totals *totals, __u64 slice_ns)
{
	__u64 reason = state->blocked_reason;

	if (reason >= BLOCKED_REASONS)
		return;
	__sync_fetch_and_add(&state->blocked_ns[reason], slice_ns);
	if (totals)
		__sync_fetch_and_add(&totals->blocked_ns[reason], slice_ns);
}

/*
 * The sleep of a task that has been woken: up to its wake-up, which began its wait, or up to now where no wake-up was
 * seen. Charged when it gets a CPU, or by a read before that, whoever takes the word; so a wake-up costs nothing more.
 */
static __always_inline void end_sleep(struct task_state *state, struct instance_totals *totals, bool woken, __u64 now)
{
	__u64 began, ended;

	if (!state->slept_ns)
		return;
	began = __sync_lock_test_and_set(&state->slept_ns, 0);
	if (!began)
		return;
	ended = woken ? state->wait_began_ns : now;
	charge_sleep(state, totals, ended > began ? ended - began : 0);
	if (totals)
		__sync_fetch_and_add(&totals->wakeups, 1);
}

/* A task that slept before the hooks were there; it sleeps from now on. A wake-up meanwhile takes it back. */
static __always_inline void adopt_sleeper(struct task_struct *task, struct task_state *state, __u64 now)
{
	state->blocked_reason = reason_of(task, task->__state);
	__sync_val_compare_and_swap(&state->slept_ns, 0, now);
	if (!is_asleep(task))
		__sync_val_compare_and_swap(&state->slept_ns, now, 0);
}

/* Charges what a sleep has lasted since it was last charged. */
static __always_inline void charge_open_sleep(struct task_struct *task, struct task_state *state)
{
	__u64 began, now;

	/* The word first: a look at the task, or a time, from before it would not belong to it. */
	began = *(volatile __u64 *)&state->slept_ns;
	now = bpf_ktime_get_ns();
	if (!is_asleep(task)) {
		if (began && is_wait(state->stamp))
			end_sleep(state, totals_of(task), true, now);
		return;
	}
	if (!began)
		adopt_sleeper(task, state, now);
	else if (now > began && __sync_val_compare_and_swap(&state->slept_ns, began, now) == began)
		charge_sleep(state, totals_of(task), now - began);
}

#endif
