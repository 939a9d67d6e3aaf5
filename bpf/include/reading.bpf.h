/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The iterators of sched.bpf.c: what a read charges, and what it writes out of each task. */
#ifndef SCULPTOR_READING_BPF_H
#define SCULPTOR_READING_BPF_H

#include "blocked.bpf.h"
#include "charging.bpf.h"
#include "preemptors.bpf.h"

/* Only of its threads can both switches be withheld, to the CPU and off it; of others one is seen, which puts it right.
 */
#define WITHHOLDING_PROCESS 1
/* Longer than it takes from a hook to what the scheduler does after it. */
#define SETTLED_NS 1000000

/* A sleeper whose last switch was not shown has a stamp left, which is no time that it ran or waited. */
static __always_inline void close_stale(struct task_struct *task, struct task_state *state)
{
	__u64 stamp;

	if (!state)
		return;
	stamp = *(volatile __u64 *)&state->stamp;
	if (stamp > NOTHING_OPEN && is_asleep(task) &&
	    __sync_val_compare_and_swap(&state->stamp, stamp, NOTHING_OPEN) == stamp)
		count(lost_switch);
}

/*
 * Charges what is open up to now, and only what task_struct bears out: a kernel may withhold switches from BPF (one was
 * met that runs no program while a thread of process 1 is current), and a stamp that they should have ended is not a
 * time that somebody ran.
 */
SEC("iter/task")
int flush(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct task_state *state;
	__u64 now, stamp;

	if (!task || !task->pid)
		return 0;
	/* Of thousands of tasks most sleep: they cost five looks a second, and no more. */
	if (is_asleep(task)) {
		if (task->tgid == WITHHOLDING_PROCESS)
			close_stale(task, bpf_task_storage_get(&tasks, task, 0, 0));
		return 0;
	}
	state = state_of(task);
	if (!state)
		return 0;
	/* The stamp first: a time, or a look at the task, from before it would not belong to it. */
	stamp = *(volatile __u64 *)&state->stamp;
	now = bpf_ktime_get_ns();
	if (!stamp) {
		adopt(task, state, now);
		return 0;
	}
	/* It runs, and no hook has said so: a switch comes before on_cpu, and leaves it behind for a moment only. */
	if (is_wait(stamp) && task->on_cpu && now > stamp + SETTLED_NS) {
		if (__sync_val_compare_and_swap(&state->stamp, stamp, now & ~WAITING) == stamp)
			count(lost_switch);
		return 0;
	}
	now = (now & ~WAITING) | (stamp & WAITING);
	/* A hook is about to speak, or was not heard. */
	if (stamp == NOTHING_OPEN || is_run(stamp) != (task->on_cpu != 0) || now <= stamp)
		return 0;
	if (__sync_val_compare_and_swap(&state->stamp, stamp, now) == stamp)
		charge(task, state, totals_of(task), stamp, now & ~WAITING, is_wait(stamp) && is_throttled(task));
	if (with_preemptors && is_wait(stamp))
		continue_preemption(task, state, false);
	return 0;
}

/* Not inlined, so that the record's layout stays in the object's BTF. A full buffer: the iterator comes back to the
 * task. */
static __noinline bool write_record(struct seq_file *out, const struct task_record *record)
{
	return bpf_seq_write(out, record, sizeof(*record)) == 0;
}

/* What is charged at long intervals only: sleeps, user and kernel time. */
static __always_inline void charge_slow(struct task_struct *task, struct task_state *state)
{
	struct instance_totals *totals;

	close_stale(task, state);
	charge_open_sleep(task, state);
	if (task->utime + task->stime == state->charged_user_ns + state->charged_kernel_ns)
		return;
	totals = totals_of(task);
	if (totals)
		charge_modes(task, state, totals);
}

/* Run once before the hooks are attached: what the tasks of that time have used is not charged to anybody. */
SEC("iter/task")
int baseline(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct task_state *state = task && task->pid ? state_of(task) : NULL;

	if (!state)
		return 0;
	state->charged_user_ns = task->utime;
	state->charged_kernel_ns = task->stime;
	return 0;
}

SEC("iter/task")
int dump(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct task_record record = {};
	struct task_state *state;
	__u64 sum;

	if (!task || !task->pid || task->exit_state)
		return 0;
	state = state_of(task);
	if (!state)
		return 0;
	charge_slow(task, state);
	sum = state->run_ns + state->wait_ns + state->throttled_ns;
	if (sum == state->dumped)
		return 0;
	record.cgroup_id = cgroup_of(task);
	record.start_boottime_ns = task->start_boottime;
	record.run_ns = state->run_ns;
	record.wait_ns = state->wait_ns;
	record.throttled_ns = state->throttled_ns;
	for (int i = 0; i < BLOCKED_REASONS; i++)
		record.blocked_ns[i] = state->blocked_ns[i];
	record.voluntary_switches = state->voluntary_switches;
	record.involuntary_switches = state->involuntary_switches;
	record.migrations = state->migrations;
	record.node_migrations = state->node_migrations;
	record.tid = task->pid;
	record.tgid = task->tgid;
	bpf_probe_read_kernel_str(record.comm, sizeof(record.comm), task->comm);
	if (write_record(ctx->meta->seq, &record))
		state->dumped = sum;
	return 0;
}

#endif
