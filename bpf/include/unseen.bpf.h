/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Switches and wake-ups that no hook was shown, and what the scheduler's own account (/proc/PID/schedstat) still tells
 * of them. What a task is found at by the next hook or read is believed, not what was seen of it last.
 */
#ifndef SCULPTOR_UNSEEN_BPF_H
#define SCULPTOR_UNSEEN_BPF_H

#include "awake.bpf.h"
#include "blocked.bpf.h"
#include "charging.bpf.h"
#include "core_fixes.bpf.h"
#include "preemptors.bpf.h"

/*
 * One kernel was met that runs no BPF program while a thread of this process is current: it shows its threads coming,
 * and neither that they go nor who comes after them, nor whom they wake.
 */
#define WITHHOLDING_PROCESS 1

/* More than a run queue's clock and ours differ by. */
#define CLOCKS_DIFFER_NS 100000

static __always_inline void count_unseen_switch(bool withheld)
{
	if (withheld)
		count(lost_withheld_switch);
	else
		count(lost_switch);
}

/* That the task went off a CPU: what it did since is not known. */
static __always_inline void count_unseen_leave(struct task_struct *task)
{
	count_unseen_switch(task->tgid == WITHHOLDING_PROCESS);
}

/* That a task came to a CPU, if it is not known when; `cpu`: what is kept of that one. */
static __always_inline void count_unseen_entry(struct probe_stats *cpu)
{
	count_unseen_switch(cpu && cpu->tgid == WITHHOLDING_PROCESS);
}

/*
 * A task that waited or slept, by what was seen, is on a CPU, or was until now: its turn began when the scheduler says.
 * Where it does not say, the time since what was seen last is charged to nothing. `here`: by a hook on that very CPU.
 */
static __noinline void begin_unseen_turn(struct task_struct *task, struct task_state *state, __u64 cgroup_id, __u64 now,
					 bool here)
{
	__u64 stamp = *(volatile __u64 *)&state->stamp, seen = stamp & ~WAITING, began = turn_began(task, now);
	struct instance_totals *totals = totals_of(task);
	bool known = began && began + CLOCKS_DIFFER_NS > seen;
	struct cpu_slices *slices;
	__u32 zero = 0, cpu = cpu_of(task);

	if (!known)
		began = now;
	else if (began < seen)
		began = seen;
	/* A read has put it right just before; what it may have taken for a sleep is none. */
	if (is_run(stamp) || __sync_val_compare_and_swap(&state->stamp, stamp, began & ~WAITING) != stamp) {
		end_sleep(state, totals, cgroup_id, false, now);
		return;
	}
	end_sleep(state, totals, cgroup_id, is_wait(stamp), began);
	if (!known) {
		count_unseen_entry(stats_of(cpu));
		return;
	}
	count(recovered);
	slices = with_preemptors ? bpf_map_lookup_percpu_elem(&cpus, &zero, cpu) : NULL;
	if (slices && here)
		begin_slice(slices, cgroup_id, began);
	if (!is_wait(stamp))
		return;
	if (slices)
		end_preemption(state, slices, cgroup_id, began);
	charge_wait(task, state, totals, stats_of(cpu), time_since(stamp, began), false);
	if (totals)
		record_latency(state, totals, began);
}

/* A task that slept, by what was seen, comes to a CPU: it has wanted one since the scheduler says. */
static __noinline void begin_unseen_wait(struct task_struct *task, struct task_state *state, __u64 now)
{
	__u64 queued = queued_since(task, now);

	if (!queued)
		return;
	count(recovered);
	begin_wait(task, state, queued);
	__sync_lock_test_and_set(&state->stamp, queued | WAITING);
	mark_awake(task->pid);
}

#endif
