/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* How an interval begins and how it is charged, to its task and to the task's cgroup. */
#ifndef SCULPTOR_CHARGING_BPF_H
#define SCULPTOR_CHARGING_BPF_H

#include "core_fixes.bpf.h"
#include "state.bpf.h"

static __always_inline void begin_wait(struct task_struct *task, struct task_state *state, __u64 now)
{
	state->wait_began_ns = now;
	if (with_preemptors)
		state->preempted_from_ns = now;
	if (only_latency)
		return;
	state->wait_throttled_ns = 0;
	follow_throttling(&state->throttling, task);
}

/*
 * Charges a slice of waiting, for that CPU, the throttled part of it apart; `held`: as throttled_part has it. Two
 * readers of one task can meet between the stamp and throttling.base_ns only within nanoseconds, and then misplace at
 * most one slice between wait and throttled.
 */
static __always_inline void charge_wait(struct task_struct *task, struct task_state *state,
					struct instance_totals *totals, struct probe_stats *cpu, __u64 slice_ns,
					bool held)
{
	__u64 throttled = throttled_part(&state->throttling, task, slice_ns, held);

	if (throttled) {
		state->wait_throttled_ns += throttled;
		__sync_fetch_and_add(&state->throttled_ns, throttled);
		if (totals)
			__sync_fetch_and_add(&totals->throttled_ns, throttled);
	}
	__sync_fetch_and_add(&state->wait_ns, slice_ns - throttled);
	if (totals)
		__sync_fetch_and_add(&totals->wait_ns, slice_ns - throttled);
	if (cpu)
		__sync_fetch_and_add(&cpu->wait_ns, slice_ns - throttled);
}

static __always_inline void charge_run(struct task_state *state, struct instance_totals *totals, __u64 slice_ns)
{
	__sync_fetch_and_add(&state->run_ns, slice_ns);
	if (totals)
		__sync_fetch_and_add(&totals->run_ns, slice_ns);
}

/* The kernel's own account of user and kernel time, which is read at long intervals and when a task ends. */
static __always_inline void charge_modes(struct task_struct *task, struct task_state *state,
					 struct instance_totals *totals)
{
	__u64 user_ns = task->utime, kernel_ns = task->stime;

	if (user_ns > state->charged_user_ns)
		__sync_fetch_and_add(&totals->user_ns, user_ns - state->charged_user_ns);
	if (kernel_ns > state->charged_kernel_ns)
		__sync_fetch_and_add(&totals->kernel_ns, kernel_ns - state->charged_kernel_ns);
	state->charged_user_ns = user_ns;
	state->charged_kernel_ns = kernel_ns;
}

/* As /proc/PID/status counts them: who was runnable did not go of its own will. */
static __always_inline void count_switch(struct task_state *state, struct instance_totals *totals, bool still_runnable)
{
	if (still_runnable) {
		state->involuntary_switches += 1;
		if (totals)
			__sync_fetch_and_add(&totals->involuntary_switches, 1);
		return;
	}
	state->voluntary_switches += 1;
	if (totals)
		__sync_fetch_and_add(&totals->voluntary_switches, 1);
}

static __always_inline void count_migration(struct task_state *state, struct instance_totals *totals, __u32 from,
					    __u32 to)
{
	bool across = node_of_cpu[from & (MOST_CPUS - 1)] != node_of_cpu[to & (MOST_CPUS - 1)];

	state->migrations += 1;
	state->node_migrations += across;
	if (!totals)
		return;
	__sync_fetch_and_add(&totals->migrations, 1);
	if (across)
		__sync_fetch_and_add(&totals->node_migrations, 1);
}

/* The latency of the wait that ends now: all of it but what was throttled. */
static __always_inline void record_latency(struct task_state *state, struct instance_totals *totals, __u64 now)
{
	__u64 began = state->wait_began_ns + state->wait_throttled_ns;

	record_latencies(totals, 1, now > began ? now - began : 0);
}

/* Takes up a task that was there before the hooks; a hook that knows better meanwhile makes the exchange fail. */
static __always_inline void adopt(struct task_struct *task, struct task_state *state, __u64 now)
{
	if (task->on_cpu) {
		__sync_val_compare_and_swap(&state->stamp, 0, now & ~WAITING);
	} else if (!is_asleep_on_queue(task)) {
		begin_wait(task, state, now);
		__sync_val_compare_and_swap(&state->stamp, 0, now | WAITING);
	}
}

#endif
