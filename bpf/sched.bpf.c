// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Who ran, who waited for a CPU, for how long, and who was kept from running by a quota: per task and per cgroup.
 *
 * A task has at most one open interval, running or waiting. Its beginning is one 64-bit word, the stamp: ns with the
 * lowest bit telling which. Whoever takes the stamp by an atomic exchange charges the time since then, and nobody else
 * does: the hooks at their events, and the iterator at each read, which charges what is open up to now. So totals are
 * exact at each read and never fall, also for a task that never switches or starves.
 */
#include "include/kernel.bpf.h"
#include "include/core_fixes.bpf.h"
#include "sched.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* On cgroup v1 the `cpu` hierarchy names the instance, on v2 the one there is. */
const volatile bool cgroup_v1 = false;

#define WAITING 1ULL

struct task_state {
	__u64 stamp;
	/* When the present wait began, whatever has been charged of it. */
	__u64 wait_began_ns;
	/* Throttled part of the present wait. */
	__u64 wait_throttled_ns;
	/* The run queue's throttled time up to which the present wait has been charged. */
	__u64 throttled_base_ns;
	__u64 run_ns;
	__u64 wait_ns;
	__u64 throttled_ns;
	__u64 migrations;
	/* Sum of the totals when they were last written out. */
	__u64 dumped;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_state);
} tasks SEC(".maps");

/* Allocated as instances come: 1.3 KB each and CPU, and none for those that a host could have and has not. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct instance_totals);
} instances SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STAT_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} stats SEC(".maps");

static const struct instance_totals no_totals;

static __always_inline void count(__u32 slot)
{
	__u64 *value = bpf_map_lookup_elem(&stats, &slot);

	if (value)
		*value += 1;
}

static __always_inline struct task_state *state_of(struct task_struct *task)
{
	struct task_state *state = bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!state)
		count(STAT_LOST_TASK_STORAGE);
	return state;
}

static __always_inline __u64 cgroup_of(struct task_struct *task)
{
	/* The root task group of an autogroup has no cgroup; its id then reads as 0 and is charged apart. */
	if (cgroup_v1)
		return task->sched_task_group->css.cgroup->kn->id;
	return task->cgroups->dfl_cgrp->kn->id;
}

static __always_inline struct instance_totals *totals_of(struct task_struct *task)
{
	__u64 id = cgroup_of(task);
	struct instance_totals *totals = bpf_map_lookup_elem(&instances, &id);

	if (totals)
		return totals;
	bpf_map_update_elem(&instances, &id, &no_totals, BPF_NOEXIST);
	totals = bpf_map_lookup_elem(&instances, &id);
	if (!totals)
		count(STAT_LOST_INSTANCE_FULL);
	return totals;
}

static __always_inline __u32 log2_floor(__u64 value)
{
	__u32 log = 0;

	if (value >> 32) {
		value >>= 32;
		log += 32;
	}
	if (value >> 16) {
		value >>= 16;
		log += 16;
	}
	if (value >> 8) {
		value >>= 8;
		log += 8;
	}
	if (value >> 4) {
		value >>= 4;
		log += 4;
	}
	if (value >> 2) {
		value >>= 2;
		log += 2;
	}
	return log + (value >> 1);
}

/* 2^30/10^9 is 0.103 octaves: the slot lies within five of the first one of the octave of ns. */
static __always_inline __u32 latency_slot(__u64 ns)
{
	__u32 slot = 4 * log2_floor(ns | 1);

#pragma unroll
	for (int i = 0; i < 4; i++) {
		if (slot >= LATENCY_SLOTS - 1)
			return LATENCY_SLOTS - 1;
		if (ns <= latency_bounds_ns[slot])
			return slot;
		slot++;
	}
	return slot < LATENCY_SLOTS ? slot : LATENCY_SLOTS - 1;
}

/*
 * Charges a slice of waiting, the throttled part of it apart. `held`: the task is held back at this very moment, so
 * that all of the slice was (it must run before it can be held again). Two readers of one task can meet between the
 * stamp and throttled_base_ns only within nanoseconds, and then misplace at most one slice between wait and throttled.
 */
static __always_inline void charge_wait(struct task_struct *task, struct task_state *state,
					struct instance_totals *totals, __u64 slice_ns, bool held)
{
	__u64 throttled = slice_ns;

	if (held) {
		state->throttled_base_ns += slice_ns;
	} else {
		__u64 total = throttled_time(task->se.cfs_rq);

		throttled = total > state->throttled_base_ns ? total - state->throttled_base_ns : 0;
		if (throttled > slice_ns)
			throttled = slice_ns;
		if (throttled)
			state->throttled_base_ns = total;
	}
	if (throttled) {
		state->wait_throttled_ns += throttled;
		__sync_fetch_and_add(&state->throttled_ns, throttled);
		if (totals)
			__sync_fetch_and_add(&totals->throttled_ns, throttled);
	}
	__sync_fetch_and_add(&state->wait_ns, slice_ns - throttled);
	if (totals)
		__sync_fetch_and_add(&totals->wait_ns, slice_ns - throttled);
}

static __always_inline void charge_run(struct task_state *state, struct instance_totals *totals, __u64 slice_ns)
{
	__sync_fetch_and_add(&state->run_ns, slice_ns);
	if (totals)
		__sync_fetch_and_add(&totals->run_ns, slice_ns);
}

static __always_inline void charge(struct task_struct *task, struct task_state *state, struct instance_totals *totals,
				   __u64 stamp, __u64 now, bool held)
{
	__u64 began = stamp & ~WAITING;
	/* Clocks of two CPUs may differ by a little. */
	__u64 slice_ns = now > began ? now - began : 0;

	if (stamp & WAITING)
		charge_wait(task, state, totals, slice_ns, held);
	else
		charge_run(state, totals, slice_ns);
}

static __always_inline void begin_wait(struct task_struct *task, struct task_state *state, __u64 now)
{
	state->wait_began_ns = now;
	state->wait_throttled_ns = 0;
	state->throttled_base_ns = throttled_time_now(task->se.cfs_rq);
}

static __always_inline int runnable(struct task_struct *task)
{
	struct task_state *state;
	__u64 now;

	count(STAT_EVENTS);
	state = state_of(task);
	/* Already running or waiting: a wake-up that came before it went to sleep. */
	if (!state || state->stamp)
		return 0;
	now = bpf_ktime_get_ns();
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
	stamp = __sync_lock_test_and_set(&state->stamp, still_runnable ? now | WAITING : 0);
	if (stamp)
		charge(task, state, totals_of(task), stamp, now, false);
}

static __always_inline void enter_cpu(struct task_struct *task, __u64 now)
{
	struct task_state *state = state_of(task);
	struct instance_totals *totals;
	__u64 stamp, latency_ns;

	if (!state)
		return;
	stamp = __sync_lock_test_and_set(&state->stamp, now & ~WAITING);
	if (!stamp)
		return;
	totals = totals_of(task);
	charge(task, state, totals, stamp, now, false);
	if (!totals || !(stamp & WAITING))
		return;
	latency_ns = now - state->wait_began_ns;
	latency_ns = latency_ns > state->wait_throttled_ns ? latency_ns - state->wait_throttled_ns : 0;
	totals->latency_count += 1;
	totals->latency_sum_ns += latency_ns;
	totals->slots[latency_slot(latency_ns)] += 1;
}

/* prev_state is what the scheduler acted on; reading the task's own again errs when it was woken meanwhile. */
SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)
{
	__u64 now = bpf_ktime_get_ns();

	count(STAT_EVENTS);
	if (prev->pid)
		leave_cpu(prev, preempt || prev_state == 0, now);
	if (next->pid)
		enter_cpu(next, now);
	return 0;
}

/*
 * Another run queue has another account of throttled time: what has been waited so far is charged against the old one.
 */
SEC("tp_btf/sched_migrate_task")
int BPF_PROG(sched_migrate_task, struct task_struct *task, int destination)
{
	struct task_state *state = state_of(task);
	struct instance_totals *totals;
	struct cfs_rq **queues, *queue;
	__u64 now, stamp;

	count(STAT_EVENTS);
	if (!state)
		return 0;
	__sync_fetch_and_add(&state->migrations, 1);
	totals = totals_of(task);
	if (totals)
		totals->migrations += 1;
	stamp = state->stamp;
	if (!(stamp & WAITING))
		return 0;
	now = bpf_ktime_get_ns();
	if (__sync_val_compare_and_swap(&state->stamp, stamp, now | WAITING) == stamp)
		charge(task, state, totals, stamp, now, is_throttled(task));
	queues = task->sched_task_group->cfs_rq;
	if (bpf_probe_read_kernel(&queue, sizeof(queue), &queues[destination]) == 0 && queue)
		state->throttled_base_ns = bpf_core_field_exists(queue->throttled_clock_self_time)
						   ? BPF_CORE_READ(queue, throttled_clock_self_time)
						   : 0;
	return 0;
}

/* Charges what is open up to now, and takes up tasks that were there before the hooks. */
static __always_inline void flush_task(struct task_struct *task, struct task_state *state)
{
	__u64 now = bpf_ktime_get_ns();
	__u64 stamp = state->stamp;

	if (!stamp) {
		if (task->on_cpu) {
			__sync_val_compare_and_swap(&state->stamp, 0, now & ~WAITING);
		} else if (task->on_rq == 1 && !task->on_cpu && !state->run_ns && !state->wait_ns) {
			state->wait_began_ns = now;
			state->throttled_base_ns = throttled_time(task->se.cfs_rq);
			__sync_val_compare_and_swap(&state->stamp, 0, now | WAITING);
		}
		return;
	}
	if (__sync_val_compare_and_swap(&state->stamp, stamp, now | (stamp & WAITING)) == stamp)
		charge(task, state, totals_of(task), stamp, now, (stamp & WAITING) && is_throttled(task));
}

SEC("iter/task")
int flush(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct task_state *state;

	if (!task || !task->pid)
		return 0;
	state = state_of(task);
	if (state)
		flush_task(task, state);
	return 0;
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
	/* A full buffer answers an error, and the iterator comes back to this task. */
	if (bpf_seq_write(ctx->meta->seq, &record, sizeof(record)) == 0)
		state->dumped = sum;
	return 0;
}
