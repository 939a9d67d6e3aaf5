// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Who ran, who waited for a CPU, for how long, and who was kept from running by a quota: per task and per cgroup.
 *
 * A task has at most one open interval, running or waiting. Its beginning is one 64-bit word, the stamp: ns with the
 * lowest bit telling which. Whoever takes the stamp by an atomic exchange charges the time since then, and nobody else
 * does: the hooks at their events, and the iterator at each read, which charges what is open up to now. So totals are
 * exact at each read and never fall, also for a task that never switches or starves. The hooks of one task never meet
 * (its run queue's lock orders them); only the iterator comes in between.
 */
#include "include/charging.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline int runnable(struct task_struct *task)
{
	struct task_state *state;
	__u64 now;

	count(events);
	state = state_of(task);
	/* Already waiting: a wake-up of one that had not gone to sleep. */
	if (!state || is_wait(state->stamp))
		return 0;
	if (is_run(state->stamp)) {
		if (task->on_cpu)
			return 0;
		count(lost_switch);
	}
	now = bpf_ktime_get_ns();
	if (task->on_cpu) {
		__sync_lock_test_and_set(&state->stamp, now & ~WAITING);
		return 0;
	}
	begin_wait(task, state, now);
	__sync_lock_test_and_set(&state->stamp, now | WAITING);
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

static __always_inline void leave_cpu(struct task_struct *task, bool still_runnable, __u64 now)
{
	struct task_state *state = state_of(task);
	__u64 stamp;

	if (!state)
		return;
	if (still_runnable)
		begin_wait(task, state, now);
	stamp = __sync_lock_test_and_set(&state->stamp, still_runnable ? now | WAITING : NOTHING_OPEN);
	/* It waited by what was seen, and ran. */
	if (is_wait(stamp))
		count(lost_switch);
	if (is_run(stamp))
		charge(task, state, totals_of(task), stamp, now, false);
}

static __always_inline void enter_cpu(struct task_struct *task, __u64 now)
{
	struct task_state *state = state_of(task);
	struct instance_totals *totals;
	__u64 stamp;

	if (!state)
		return;
	stamp = __sync_lock_test_and_set(&state->stamp, now & ~WAITING);
	/* It ran elsewhere by what was seen. */
	if (is_run(stamp))
		count(lost_switch);
	if (!is_wait(stamp))
		return;
	totals = totals_of(task);
	charge(task, state, totals, stamp, now, false);
	if (totals)
		record_latency(state, totals, now);
}

/* prev_state is what the scheduler acted on; reading the task's own again errs when it was woken meanwhile. */
SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)
{
	__u64 now = bpf_ktime_get_ns();

	count(events);
	if (prev->pid)
		leave_cpu(prev, preempt || prev_state == 0, now);
	if (next->pid)
		enter_cpu(next, now);
	return 0;
}

/* Another run queue has its own account of throttled time: the wait so far is charged against the old one. */
SEC("tp_btf/sched_migrate_task")
int BPF_PROG(sched_migrate_task, struct task_struct *task, int destination)
{
	struct task_state *state = state_of(task);
	struct instance_totals *totals;
	struct cfs_rq **queues, *queue;
	__u64 now, stamp;

	count(events);
	if (!state)
		return 0;
	__sync_fetch_and_add(&state->migrations, 1);
	totals = totals_of(task);
	if (totals)
		totals->migrations += 1;
	stamp = state->stamp;
	if (!is_wait(stamp))
		return 0;
	now = bpf_ktime_get_ns();
	if (__sync_val_compare_and_swap(&state->stamp, stamp, now | WAITING) == stamp)
		charge(task, state, totals, stamp, now, is_throttled(task));
	queues = task->sched_task_group->cfs_rq;
	if (bpf_probe_read_kernel(&queue, sizeof(queue), &queues[destination]) == 0 && queue) {
		state->throttled_queue = (__u64)queue;
		state->throttled_base_ns = throttled_time_of_other(queue);
	}
	return 0;
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
	state = is_asleep(task) ? bpf_task_storage_get(&tasks, task, 0, 0) : state_of(task);
	if (!state)
		return 0;
	/* The stamp first: a time, or a look at the task, from before it would not belong to it. */
	stamp = *(volatile __u64 *)&state->stamp;
	now = bpf_ktime_get_ns();
	if (is_asleep(task)) {
		if (stamp > NOTHING_OPEN && __sync_val_compare_and_swap(&state->stamp, stamp, NOTHING_OPEN) == stamp)
			count(lost_switch);
		return 0;
	}
	if (!stamp) {
		adopt(task, state, now);
		return 0;
	}
	now = (now & ~WAITING) | (stamp & WAITING);
	/* A hook is about to speak, or was not heard. */
	if (is_run(stamp) != (task->on_cpu != 0) || now <= stamp)
		return 0;
	if (__sync_val_compare_and_swap(&state->stamp, stamp, now) == stamp)
		charge(task, state, totals_of(task), stamp, now & ~WAITING, is_wait(stamp) && is_throttled(task));
	return 0;
}

/* Not inlined, so that the record's layout stays in the object's BTF. A full buffer: the iterator comes back to the
 * task. */
static __noinline bool write_record(struct seq_file *out, const struct task_record *record)
{
	return bpf_seq_write(out, record, sizeof(*record)) == 0;
}

SEC("iter/task")
int dump(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct task_record record = {};
	struct task_state *state;
	__u64 sum;

	if (!task || !task->pid)
		return 0;
	state = bpf_task_storage_get(&tasks, task, 0, 0);
	if (!state)
		return 0;
	sum = state->run_ns + state->wait_ns + state->throttled_ns;
	if (sum == state->dumped)
		return 0;
	record.cgroup_id = cgroup_of(task);
	record.start_boottime_ns = task->start_boottime;
	record.run_ns = state->run_ns;
	record.wait_ns = state->wait_ns;
	record.throttled_ns = state->throttled_ns;
	record.migrations = state->migrations;
	record.tid = task->pid;
	record.tgid = task->tgid;
	bpf_probe_read_kernel_str(record.comm, sizeof(record.comm), task->comm);
	if (write_record(ctx->meta->seq, &record))
		state->dumped = sum;
	return 0;
}
