// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Who ran, who waited for a CPU, for how long, and who was kept from running by a quota: per task and per cgroup.
 *
 * A task has at most one open interval, running or waiting. Its beginning is one 64-bit word, the stamp: ns with the
 * lowest bit telling which (a sleep has a word of its own, of the same kind; see include/blocked.bpf.h). Whoever takes
 * the stamp by an atomic exchange charges the time since then, and nobody else does: the hooks at their events, and the
 * iterator at each read, which charges what is open up to now. So totals are exact at each read and never fall, also
 * for a task that never switches or starves. The hooks of one task never meet (its run queue's lock orders them); only
 * the iterator comes in between.
 */
#include "include/awake.bpf.h"
#include "include/blocked.bpf.h"
#include "include/charging.bpf.h"
#include "include/preemptors.bpf.h"
#include "include/unseen.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline int runnable(struct task_struct *task)
{
	struct task_state *state;
	__u64 now;

	if (is_withheld())
		return 0;
	count(events);
	state = state_of(task);
	if (!state || (is_run(state->stamp) && task->on_cpu))
		return 0;
	now = bpf_ktime_get_ns();
	if (!only_latency && task->tgid == withholding_process)
		settle_account(task, state, cgroup_of(task), now);
	/* Already waiting: a wake-up of one that had not gone to sleep. */
	if (is_wait(state->stamp))
		return 0;
	if (is_run(state->stamp))
		count_unseen_leave(task);
	if (task->on_cpu) {
		if (!only_latency)
			begin_unseen_turn(task, state, state->stamp, now, false);
		if (!is_run(state->stamp))
			__sync_lock_test_and_set(&state->stamp, now & ~WAITING);
		return 0;
	}
	begin_wait(task, state, now);
	__sync_lock_test_and_set(&state->stamp, now | WAITING);
	if (only_latency)
		return 0;
	mark_awake(task->pid);
	keep_account(task, now);
	return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(sched_wakeup, struct task_struct *task)
{
	return runnable(task);
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(sched_wakeup_new, struct task_struct *task)
{
	return runnable(task);
}

static __always_inline void leave_cpu(struct task_struct *task, __u64 cgroup_id, struct probe_stats *own,
				      bool still_runnable, unsigned int task_state, bool idles, __u64 now)
{
	struct instance_totals *totals;
	struct task_state *state;
	__u64 stamp;

	if (only_latency && !still_runnable)
		return;
	state = state_of(task);
	if (!state)
		return;
	totals = only_latency ? NULL : totals_by_id(cgroup_id);
	stamp = *(volatile __u64 *)&state->stamp;
	/* It came to the CPU unseen. */
	if (!only_latency && (is_wait(stamp) || (state->sleep && !is_run(stamp)))) {
		if (!idles)
			compare_clocks(own, task, now);
		begin_unseen_turn(task, state, stamp, now, true);
	}
	if (still_runnable)
		begin_wait(task, state, now);
	else if (!has_ended(task_state))
		begin_sleep(task, state, totals, cgroup_id, task_state, now);
	if (only_latency) {
		state->stamp = now | WAITING;
		return;
	}
	stamp = __sync_lock_test_and_set(&state->stamp, still_runnable ? now | WAITING : NOTHING_OPEN);
	if (is_run(stamp))
		charge_run(state, totals, time_since(stamp, now));
	count_switch(state, totals, still_runnable);
	if (totals && has_ended(task_state))
		charge_modes(task, state, totals);
}

static __always_inline void enter_cpu(struct task_struct *task, __u64 cgroup_id, struct probe_stats *own,
				      struct cpu_slices *cpu, __u64 now)
{
	struct task_state *state = state_of(task);
	struct instance_totals *totals;
	__u64 stamp;

	if (!state)
		return;
	if (!only_latency && task->tgid == withholding_process) {
		compare_clocks(own, task, now);
		settle_account(task, state, cgroup_id, now);
	}
	if (!only_latency && state->stamp == NOTHING_OPEN)
		begin_unseen_wait(task, state, now);
	stamp = __sync_lock_test_and_set(&state->stamp, only_latency ? NOTHING_OPEN : now & ~WAITING);
	/* It ran elsewhere by what was seen. */
	if (is_run(stamp))
		count_unseen_leave(task);
	totals = totals_by_id(cgroup_id);
	if (!only_latency)
		end_sleep(state, totals, cgroup_id, is_wait(stamp), now);
	if (!is_wait(stamp)) {
		if (!only_latency)
			mark_awake(task->pid);
		return;
	}
	if (cpu)
		end_preemption(state, cpu, cgroup_id, now);
	if (!only_latency)
		charge_wait(task, state, totals, own, time_since(stamp, now), false);
	if (totals)
		record_latency(state, totals, now);
}

/*
 * prev_state, not the task's own, which a wake-up may have changed meanwhile. Where a signal keeps a task from sleeping
 * older kernels tell the sleep all the same: it comes without a wake-up, and the account says since when it waited.
 */
SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)
{
	struct cpu_slices *cpu = with_preemptors ? own_slices() : NULL;
	__u64 leaver = prev->pid ? cgroup_of(prev) : NOBODY;
	__u64 comer = next->pid ? cgroup_of(next) : NOBODY;
	struct probe_stats *own = own_stats();
	__u64 now = bpf_ktime_get_ns();

	if (!own || is_withheld())
		return 0;
	own->events += 1;
	if (leaver != NOBODY)
		leave_cpu(prev, leaver, own, preempt || prev_state == 0, prev_state, comer == NOBODY, now);
	if (cpu)
		settle_slice(cpu, leaver);
	if (comer != NOBODY)
		enter_cpu(next, comer, own, cpu, now);
	if (!only_latency) {
		keep_account(prev, now);
		keep_account(next, now);
	}
	if (cpu)
		begin_slice(cpu, comer, now);
	own->tgid = next->tgid;
	if (comer != NOBODY && now > own->compared_ns + COMPARED_EVERY_NS)
		compare_clocks(own, next, now);
	return 0;
}

/* Another run queue has its own account of throttled time: the wait so far is charged against the old one. */
SEC("tp_btf/sched_migrate_task")
int BPF_PROG(sched_migrate_task, struct task_struct *task, int destination)
{
	struct task_state *state = state_of(task);
	struct instance_totals *totals;
	__u64 now, stamp, cgroup_id;
	__u32 source = cpu_of(task);

	count(events);
	if (!state)
		return 0;
	cgroup_id = cgroup_of(task);
	totals = totals_by_id(cgroup_id);
	count_migration(state, totals, source, destination);
	stamp = state->stamp;
	if (!is_wait(stamp))
		return 0;
	now = bpf_ktime_get_ns();
	if (with_preemptors)
		continue_preemption(task, state, cgroup_id, now, true);
	if (__sync_val_compare_and_swap(&state->stamp, stamp, now | WAITING) == stamp)
		charge_wait(task, state, totals, stats_of(source), time_since(stamp, now), is_throttled(task));
	follow_other_queue(&state->throttling, task, destination);
	return 0;
}

#include "include/tasks_reading.bpf.h"
#include "include/totals_reading.bpf.h"
