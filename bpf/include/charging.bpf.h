/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Where time goes: the totals of a task and of its cgroup, and how an interval is charged to both. */
#ifndef SCULPTOR_CHARGING_BPF_H
#define SCULPTOR_CHARGING_BPF_H

#include "kernel.bpf.h"
#include "core_fixes.bpf.h"
#include "latency.bpf.h"
#include "../sched.h"

/* On cgroup v1 the `cpu` hierarchy names the instance, on v2 the one there is. */
const volatile bool cgroup_v1 = false;

/* Id of the root of every hierarchy: kernfs numbers its nodes from 1. */
#define ROOT_CGROUP_ID 1ULL

/* Lowest bit of a stamp: the interval is one of waiting, else of running. */
#define WAITING 1ULL
/* Stamps up to here are no time: 0, nothing is known of the task yet; this one, it sleeps or has ended. */
#define NOTHING_OPEN 1ULL

struct task_state {
	/* When the open interval began, or was last charged up to; at most NOTHING_OPEN: none is. */
	__u64 stamp;
	/* When the present wait began, whatever has been charged of it. */
	__u64 wait_began_ns;
	/* Throttled part of the present wait. */
	__u64 wait_throttled_ns;
	/* The run queue whose account of throttled time is followed, and how far of it has been charged. */
	__u64 throttled_queue;
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
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct probe_stats);
} stats SEC(".maps");

static const struct instance_totals no_totals;

#define count(field)                                                                                                   \
	do {                                                                                                           \
		__u32 zero = 0;                                                                                        \
		struct probe_stats *here = bpf_map_lookup_elem(&stats, &zero);                                         \
                                                                                                                       \
		if (here)                                                                                              \
			here->field += 1;                                                                              \
	} while (0)

static __always_inline struct task_state *state_of(struct task_struct *task)
{
	struct task_state *state = bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!state)
		count(lost_task_storage);
	return state;
}

static __always_inline __u64 cgroup_of(struct task_struct *task)
{
	__u64 id;

	if (!cgroup_v1)
		return task->cgroups->dfl_cgrp->kn->id;
	/* A task of the root may be scheduled in an autogroup, which has no cgroup: its id reads as 0. */
	id = task->sched_task_group->css.cgroup->kn->id;
	return id ? id : ROOT_CGROUP_ID;
}

static __always_inline struct instance_totals *totals_of(struct task_struct *task)
{
	__u64 id = cgroup_of(task);
	struct instance_totals *totals = bpf_map_lookup_elem(&instances, &id);
	long error;

	if (totals)
		return totals;
	error = bpf_map_update_elem(&instances, &id, &no_totals, BPF_NOEXIST);
	totals = bpf_map_lookup_elem(&instances, &id);
	if (totals)
		return totals;
	if (error == -E2BIG)
		count(lost_instance_full);
	else
		count(lost_instance_memory);
	return NULL;
}

static __always_inline void begin_wait(struct task_struct *task, struct task_state *state, __u64 now)
{
	struct cfs_rq *queue = task->se.cfs_rq;

	state->wait_began_ns = now;
	state->wait_throttled_ns = 0;
	state->throttled_queue = (__u64)queue;
	state->throttled_base_ns = throttled_time_now(queue);
}

/* What of the slice since the last charge was throttled, by the run queue's own account. */
static __always_inline __u64 throttled_part(struct task_struct *task, struct task_state *state, __u64 slice_ns)
{
	struct cfs_rq *queue = task->se.cfs_rq;
	__u64 total = throttled_time(queue);
	__u64 throttled = 0;

	/* Of another queue (the task's cgroup was changed) nothing is known of before: followed from here on. */
	if (state->throttled_queue == (__u64)queue && total > state->throttled_base_ns)
		throttled = total - state->throttled_base_ns;
	if (state->throttled_queue != (__u64)queue || throttled) {
		state->throttled_queue = (__u64)queue;
		state->throttled_base_ns = total;
	}
	return throttled < slice_ns ? throttled : slice_ns;
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

	if (held)
		state->throttled_base_ns += slice_ns;
	else
		throttled = throttled_part(task, state, slice_ns);
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

/* The latency of the wait that ends now: all of it but what was throttled. Hooks of one CPU do not interrupt each
 * other. */
static __always_inline void record_latency(struct task_state *state, struct instance_totals *totals, __u64 now)
{
	__u64 began = state->wait_began_ns + state->wait_throttled_ns;
	__u64 latency_ns = now > began ? now - began : 0;

	totals->latency_count += 1;
	totals->latency_sum_ns += latency_ns;
	totals->slots[latency_slot(latency_ns)] += 1;
}

#endif
