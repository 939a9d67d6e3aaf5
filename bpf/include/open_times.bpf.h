/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What a read charges of one task: the time that it has run or waited for and still does. */
#ifndef SCULPTOR_OPEN_TIMES_BPF_H
#define SCULPTOR_OPEN_TIMES_BPF_H

#include "awake.bpf.h"
#include "blocked.bpf.h"
#include "charging.bpf.h"
#include "preemptors.bpf.h"
#include "unseen.bpf.h"

/* Longer than it takes from a hook to what the scheduler does after it. */
#define SETTLED_NS 1000000

static __always_inline void charge(struct task_struct *task, struct task_state *state, __u64 stamp, __u64 now)
{
	__u32 cpu = cpu_of(task);
	struct instance_totals *totals = totals_on(cgroup_of(task), cpu);
	__u64 slice_ns = time_since(stamp, now);

	if (is_wait(stamp))
		charge_wait(task, state, totals, stats_of(cpu), slice_ns, is_throttled(task));
	else
		charge_run(state, totals, slice_ns);
}

/*
 * Charges what is open up to now, and only what task_struct bears out: a kernel may withhold switches from BPF (one was
 * met that runs no program while a thread of process 1 is current), and a stamp that they should have ended is not a
 * time that somebody ran.
 */
static __always_inline void charge_open(struct task_struct *task)
{
	struct task_state *state;
	__u64 now, stamp;

	/* Of thousands of tasks most sleep: they cost a look, and no more. */
	if (is_asleep(task))
		return;
	mark_awake(task->pid);
	state = state_of(task);
	if (!state)
		return;
	/* The stamp first: a time, or a look at the task, from before it would not belong to it. */
	stamp = *(volatile __u64 *)&state->stamp;
	now = bpf_ktime_get_ns();
	if (!stamp) {
		adopt(task, state, now);
		return;
	}
	/* It runs, and no hook has said so: a switch comes before on_cpu, and leaves it behind for a moment only. */
	if (is_wait(stamp) && task->on_cpu && now > stamp + SETTLED_NS) {
		begin_unseen_turn(task, state, stamp, now, false);
		stamp = *(volatile __u64 *)&state->stamp;
	}
	now = (now & ~WAITING) | (stamp & WAITING);
	/* A hook is about to speak, or was not heard. */
	if (stamp == NOTHING_OPEN || is_run(stamp) != (task->on_cpu != 0) || now <= stamp)
		return;
	if (__sync_val_compare_and_swap(&state->stamp, stamp, now) == stamp)
		charge(task, state, stamp, now & ~WAITING);
	/* It waits: no sleep is to be charged any longer. */
	if (is_wait(stamp) && state->sleep)
		end_sleep(state, totals_of(task), cgroup_of(task), true, now & ~WAITING);
	if (with_preemptors && is_wait(stamp))
		continue_preemption(task, state, cgroup_of(task), now & ~WAITING, false);
}

#endif
