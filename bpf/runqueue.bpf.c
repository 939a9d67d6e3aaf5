// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Who ran and who waited for a CPU, on a kernel without BTF of its own: there tp_btf, iterators and storage of tasks
 * are refused, and raw tracepoints, hashes and BPF_PROG_RUN are not. Where fields lie libbpf takes from a file that it
 * is given; the verifier knows no types, so each is read as memory that may not be there.
 *
 * Intervals and their stamps are those of sched.bpf.c, kept by tid until the task ends. What is told of an instance is
 * less: nothing of sleeps, of quotas (who is held back waits), of user and kernel time, and of whom a wait was for.
 * What contradicts what was seen is dropped and counted, not put right.
 */
#include "include/awake.bpf.h"
#include "include/core_fixes.bpf.h"
#include "include/totals.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* linux/sched.h; the same since 4.14. */
#define TASK_DEAD 0x80

struct interval {
	/* When it began, or was last charged up to; at most NOTHING_OPEN: none is open. */
	__u64 stamp;
	/* When the present wait began, whatever has been charged of it. */
	__u64 wait_began_ns;
	/* Whose it is: another task's may have had the tid before, or have taken it (exec of a thread). */
	__u64 task;
	/* Whether the present wait began as it was woken. */
	__u64 woken;
};

/* Allocated beforehand: a hook holds the run queue's lock. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct interval);
} intervals SEC(".maps");

static __always_inline struct interval *interval_of(struct task_struct *task, __u32 tid)
{
	struct interval none = {.task = (__u64)task}, *open = bpf_map_lookup_elem(&intervals, &tid);

	if (open && open->task == (__u64)task)
		return open;
	/* Whose it was has ended unseen, or has another tid since. */
	if (open && open->stamp > NOTHING_OPEN)
		count(lost_switch);
	if (bpf_map_update_elem(&intervals, &tid, &none, BPF_ANY)) {
		count(lost_task_storage);
		return NULL;
	}
	return bpf_map_lookup_elem(&intervals, &tid);
}

/* Begins another interval, by its stamp, and answers the stamp that was there. */
static __always_inline __u64 begin(struct interval *open, __u32 tid, __u64 stamp)
{
	__u64 before = __sync_lock_test_and_set(&open->stamp, stamp);

	if (before <= NOTHING_OPEN && stamp > NOTHING_OPEN)
		mark_awake(tid);
	return before;
}

static __always_inline __u64 begin_wait(struct interval *open, __u32 tid, bool woken, __u64 now)
{
	open->wait_began_ns = now;
	open->woken = woken;
	return begin(open, tid, now | WAITING);
}

static __always_inline int runnable(struct task_struct *task, bool is_new)
{
	__u32 tid = BPF_CORE_READ(task, pid);
	struct interval *open = interval_of(task, tid);
	__u64 now = bpf_ktime_get_ns(), stamp;

	count(events);
	/* Already waiting: a wake-up of one that had not gone to sleep. */
	if (!open || is_wait(open->stamp))
		return 0;
	stamp = open->stamp;
	if (other_is_on_cpu(task, is_run(stamp))) {
		if (is_run(stamp))
			return 0;
		/* Since before the hooks, or it came to its CPU unseen. */
		if (stamp)
			count(lost_switch);
		begin(open, tid, now & ~WAITING);
		return 0;
	}
	/* It left its CPU unseen. */
	if (is_run(stamp))
		count(lost_switch);
	begin_wait(open, tid, !is_new, now);
	return 0;
}

SEC("raw_tp/sched_wakeup")
int BPF_PROG(runqueue_wakeup, struct task_struct *task)
{
	return runnable(task, false);
}

SEC("raw_tp/sched_wakeup_new")
int BPF_PROG(runqueue_wakeup_new, struct task_struct *task)
{
	return runnable(task, true);
}

static __always_inline void leave_cpu(struct task_struct *task, __u32 tid, bool still_runnable, bool ends, __u64 now)
{
	struct interval *open = interval_of(task, tid);
	struct instance_totals *totals;
	__u64 stamp;

	if (!open)
		return;
	stamp = still_runnable ? begin_wait(open, tid, false, now) : begin(open, tid, NOTHING_OPEN);
	/* It came to its CPU unseen, or before the hooks were there. */
	if (stamp && !is_run(stamp))
		count(lost_switch);
	totals = totals_by_id(cgroup_of_other(task));
	if (totals) {
		if (is_run(stamp))
			__sync_fetch_and_add(&totals->run_ns, time_since(stamp, now));
		__sync_fetch_and_add(still_runnable ? &totals->involuntary_switches : &totals->voluntary_switches, 1);
	}
	if (ends)
		bpf_map_delete_elem(&intervals, &tid);
}

static __always_inline void enter_cpu(struct task_struct *task, __u32 tid, __u64 now)
{
	struct interval *open = interval_of(task, tid);
	struct instance_totals *totals;
	__u64 stamp;

	if (!open)
		return;
	stamp = begin(open, tid, now & ~WAITING);
	if (!is_wait(stamp)) {
		/* It ran elsewhere or slept, by what was seen. */
		if (stamp)
			count(lost_switch);
		return;
	}
	totals = totals_by_id(cgroup_of_other(task));
	if (!totals)
		return;
	__sync_fetch_and_add(&totals->wait_ns, time_since(stamp, now));
	record_latencies(totals, 1, time_since(open->wait_began_ns, now));
	if (open->woken)
		__sync_fetch_and_add(&totals->wakeups, 1);
}

SEC("raw_tp/sched_switch")
int BPF_PROG(runqueue_switch, bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)
{
	__u32 leaver = BPF_CORE_READ(prev, pid), comer = BPF_CORE_READ(next, pid);
	__u64 now = bpf_ktime_get_ns();

	count(events);
	if (leaver)
		leave_cpu(prev, leaver, preempt || prev_state == 0, prev_state & TASK_DEAD, now);
	if (comer)
		enter_cpu(next, comer, now);
	return 0;
}

SEC("raw_tp/sched_migrate_task")
int BPF_PROG(runqueue_migrate_task, struct task_struct *task, int destination)
{
	struct instance_totals *totals = totals_by_id(cgroup_of_other(task));
	__u32 from = cpu_of_other(task) & (MOST_CPUS - 1), to = destination & (MOST_CPUS - 1);

	count(events);
	if (!totals)
		return 0;
	__sync_fetch_and_add(&totals->migrations, 1);
	if (node_of_cpu[from] != node_of_cpu[to])
		__sync_fetch_and_add(&totals->node_migrations, 1);
	return 0;
}

#include "include/runqueue_reading.bpf.h"
