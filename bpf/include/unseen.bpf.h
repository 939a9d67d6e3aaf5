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
 * One kernel was met that runs no BPF program while a thread of process 1 is current: it shows its threads coming, and
 * neither that they go nor who comes after them, nor whom they wake. A test has any kernel do so with any process.
 */
const volatile __u32 withholding_process = 1;
const volatile bool withholds = false;

static __always_inline bool is_withheld(void)
{
	return withholds && bpf_get_current_pid_tgid() >> 32 == withholding_process;
}

/* More than a run queue's clock and ours differ by, once what is known of that is taken off. */
#define CLOCKS_DIFFER_NS 100000

/*
 * And more than that account is off by where it is of a turn that certainly came: once in two minutes it said 0.1 to
 * 0.7 ms before the hook that saw the task preempted, since the scheduler does not read the clock anew for each switch.
 */
#define ACCOUNT_DIFFERS_NS 2000000

/* They drift apart by some 50 µs a second. */
#define COMPARED_EVERY_NS 50000000

/* In a hook that sees a task come to this CPU: before one idles its queue's clock may have been left as it was for
 * long. */
static __always_inline void compare_clocks(struct probe_stats *own, struct task_struct *task, __u64 now)
{
	own->clock_offset = now - queue_clock(task);
	own->compared_ns = now;
}

/*
 * A time of a run queue's clock by ours, between what was seen last and now; 0: it is not, by more than they may
 * differ, or is not known. By itself for the verifier, which would follow each way through it.
 */
__noinline __u64 by_our_clock(__u64 queue_time, __u64 offset, __u64 seen, __u64 now, __u64 differ_ns)
{
	__u64 time = queue_time + offset;

	if (!queue_time || !offset || time + differ_ns <= seen || time > now + differ_ns)
		return 0;
	if (time < seen)
		return seen;
	return time < now ? time : now;
}

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
	count_unseen_switch(task->tgid == withholding_process);
}

/* That a task came to a CPU, if it is not known when; `cpu`: what is kept of that one. */
static __always_inline void count_unseen_entry(struct probe_stats *cpu)
{
	count_unseen_switch(cpu && cpu->tgid == withholding_process);
}

/*
 * A task that waited or slept, by the stamp that was seen last, is on a CPU, or was until now: its turn began when the
 * scheduler says. Where it does not say, the time since what was seen last is charged to nothing. `here`: by a hook on
 * that very CPU, which nobody else but a read can forestall; a read that is forestalled changes nothing.
 */
static __noinline void begin_unseen_turn(struct task_struct *task, struct task_state *state, __u64 stamp, __u64 now,
					 bool here)
{
	__u64 cgroup_id = cgroup_of(task), seen = is_wait(stamp) ? stamp & ~WAITING : state->sleep & ~REASON, began;
	__u32 zero = 0, nr = cpu_of(task);
	struct probe_stats *cpu = stats_of(nr);
	struct instance_totals *totals;
	struct cpu_slices *slices;

	if (!cpu)
		return;
	began = by_our_clock(last_arrival(task), cpu->clock_offset, seen, now,
			     here ? ACCOUNT_DIFFERS_NS : CLOCKS_DIFFER_NS);
	/* By the scheduler it has not come. */
	if (!began && !here)
		return;
	if (__sync_val_compare_and_swap(&state->stamp, stamp, (began ? began : now) & ~WAITING) != stamp)
		return;
	mark_awake(task->pid);
	totals = totals_on(cgroup_id, nr);
	end_sleep(state, totals, cgroup_id, is_wait(stamp), began ? began : now);
	if (!began) {
		count_unseen_entry(cpu);
		return;
	}
	count(recovered);
	slices = with_preemptors ? bpf_map_lookup_percpu_elem(&cpus, &zero, nr) : NULL;
	if (slices && here)
		begin_slice(slices, cgroup_id, began);
	if (!is_wait(stamp))
		return;
	if (slices)
		end_preemption(state, slices, cgroup_id, began);
	charge_wait(task, state, totals, cpu, time_since(stamp, began), false);
	if (totals)
		record_latency(state, totals, began);
}

/*
 * A task that slept, by what was seen, comes to a CPU: it has wanted one since the scheduler says, or, where it was
 * moved to another queue meanwhile, at least since then.
 */
static __noinline void begin_unseen_wait(struct task_struct *task, struct task_state *state, __u64 now)
{
	struct probe_stats *own = own_stats();
	__u64 queued;

	if (!own)
		return;
	compare_clocks(own, task, now);
	/* A sleeper that stayed queued and was moved (delayed dequeue) may have a time from before its sleep left. */
	queued = by_our_clock(last_queued(task), own->clock_offset, state->sleep & ~REASON, now, CLOCKS_DIFFER_NS);
	if (!queued)
		return;
	count(recovered);
	begin_wait(task, state, queued);
	__sync_lock_test_and_set(&state->stamp, queued | WAITING);
	mark_awake(task->pid);
}

/* What the scheduler's account said of a thread of the withholding process when a hook saw it last. */
struct account {
	__u64 run_ns;
	__u64 wait_ns;
	__u64 voluntary;
	__u64 involuntary;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct account);
} accounts SEC(".maps");

/* To be called by each hook that has seen a thread of that process; the wait that ends in it is seen. */
static __always_inline void keep_account(struct task_struct *task, __u64 now)
{
	struct probe_stats *own;
	struct account *account;
	__u64 queued;

	if (task->tgid != withholding_process)
		return;
	own = own_stats();
	account = bpf_task_storage_get(&accounts, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!account || !own)
		return;
	queued = by_our_clock(last_queued(task), own->clock_offset, 0, now, CLOCKS_DIFFER_NS);
	account->run_ns = task->se.sum_exec_runtime;
	account->wait_ns = queued_ns(task) + (queued ? now - queued : 0);
	account->voluntary = task->nvcsw;
	account->involuntary = task->nivcsw;
}

/*
 * A thread of the withholding process has left its CPU since a hook saw it, and may have come back and left again: what
 * it did until now, where a hook sees it woken or about to run, is what the account has grown by. The time that it
 * neither ran nor waited it slept, for the reason of its last sleep.
 */
static __noinline void settle_account(struct task_struct *task, struct task_state *state, __u64 cgroup_id, __u64 now)
{
	__u64 stamp = *(volatile __u64 *)&state->stamp, queued, until, ran_ns, waited_ns, slept_ns, turns, comings;
	struct account *seen = bpf_task_storage_get(&accounts, task, 0, 0);
	struct probe_stats *own = own_stats();
	__u64 voluntary, involuntary, reason = reason_of(task, 0);
	struct instance_totals *totals;

	if (!seen || !own || stamp <= NOTHING_OPEN)
		return;
	voluntary = task->nvcsw - seen->voluntary;
	involuntary = task->nivcsw - seen->involuntary;
	turns = voluntary + involuntary;
	if (!turns || __sync_val_compare_and_swap(&state->stamp, stamp, NOTHING_OPEN) != stamp)
		return;
	own->recovered += turns;
	queued = by_our_clock(last_queued(task), own->clock_offset, 0, now, CLOCKS_DIFFER_NS);
	until = time_since(stamp, queued ? queued : now);
	ran_ns = task->se.sum_exec_runtime - seen->run_ns;
	waited_ns = queued_ns(task) > seen->wait_ns ? queued_ns(task) - seen->wait_ns : 0;
	/* A read has found it asleep: that sleep is charged as others are. */
	slept_ns = !state->sleep && until > ran_ns + waited_ns ? until - ran_ns - waited_ns : 0;
	totals = totals_by_id(cgroup_id);
	charge_run(state, totals, ran_ns);
	__sync_fetch_and_add(&state->wait_ns, waited_ns);
	__sync_fetch_and_add(&state->blocked_ns[reason], slept_ns);
	state->voluntary_switches += voluntary;
	state->involuntary_switches += involuntary;
	if (!totals)
		return;
	__sync_fetch_and_add(&totals->wait_ns, waited_ns);
	__sync_fetch_and_add(&totals->slept_ns[reason], slept_ns);
	__sync_fetch_and_add(&totals->voluntary_switches, voluntary);
	__sync_fetch_and_add(&totals->involuntary_switches, involuntary);
	__sync_fetch_and_add(&totals->wakeups, voluntary);
	/* The beginning of the first may have been seen. */
	comings = is_run(stamp) ? turns - 1 : turns;
	if (comings)
		record_latencies(totals, comings, waited_ns);
}

#endif
