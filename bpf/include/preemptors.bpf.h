/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Whom a wait was for: each part of it is charged to the instance that ran on that CPU meanwhile.
 *
 * Each CPU keeps who ran on it lately, as slices: since when, and of which cgroup; one who goes on is one slice. When a
 * wait ends, the newest slices that it overlaps are charged exactly, each for its overlap. What is left of a longer
 * wait is parted in four, and each part charged whole to who ran at one instant of it, drawn uniformly: in the mean as
 * exact, and at a bounded cost, however many run and however many wait. What nobody ran in (the CPU woke from idling)
 * is not charged here.
 */
#ifndef SCULPTOR_PREEMPTORS_BPF_H
#define SCULPTOR_PREEMPTORS_BPF_H

#include "core_fixes.bpf.h"
#include "state.bpf.h"

/* A power of two: at 4 ms a slice, of the last second. */
#define SLICES 256
/* So many are charged exactly; each costs an update of a hash. */
#define EXACT_SLICES 4
/* Into so many parts the rest is divided. */
#define DRAWS  4
#define NOBODY 0ULL
/* An id of no cgroup, which a double holds: for whom there is no room is somebody. */
#define SOMEBODY ((1ULL << 53) - 1)

struct slice {
	__u64 began_ns;
	__u64 cgroup_id;
};

struct cpu_slices {
	__u64 newest;
	struct slice slices[SLICES];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu_slices);
} cpus SEC(".maps");

/*
 * Emptied by each read, so that it holds the pairs of one interval; allocated beforehand (1.4 MB, and 131 KB for each
 * CPU), since a hook now and then finds no memory at hand. By CPU: most waits add to a few pairs, which CPUs would take
 * from one another with every switch. One for all CPUs where there are very many.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct pair);
	__type(value, __u64);
} pairs SEC(".maps");

/* Waits for which there was no room there, one entry for each who waited: when thousands wake at once, all wait for
 * all. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct pair);
	__type(value, __u64);
} other_pairs SEC(".maps");

static const __u64 no_time;

static __always_inline struct slice *slice_of(struct cpu_slices *cpu, __u64 age)
{
	return &cpu->slices[(cpu->newest - age) & (SLICES - 1)];
}

static __always_inline struct cpu_slices *own_slices(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&cpus, &zero);
}

/* Who is found on the CPU has run since the last switch that was seen: the one to it may have been withheld. */
static __always_inline void settle_slice(struct cpu_slices *cpu, __u64 cgroup_id)
{
	struct slice *slice = slice_of(cpu, 0);

	if (slice->cgroup_id != cgroup_id)
		slice->cgroup_id = cgroup_id;
}

/* From now on a task of this cgroup runs here. */
static __always_inline void begin_slice(struct cpu_slices *cpu, __u64 cgroup_id, __u64 now)
{
	struct slice *slice;

	if (slice_of(cpu, 0)->cgroup_id == cgroup_id)
		return;
	cpu->newest += 1;
	slice = slice_of(cpu, 0);
	slice->began_ns = now;
	slice->cgroup_id = cgroup_id;
}

static __noinline __u64 *new_pair(struct pair *pair)
{
	__u64 *total;

	bpf_map_update_elem(&pairs, pair, &no_time, BPF_NOEXIST);
	total = bpf_map_lookup_elem(&pairs, pair);
	if (total)
		return total;
	pair->preemptor = SOMEBODY;
	total = bpf_map_lookup_elem(&other_pairs, pair);
	if (total)
		return total;
	bpf_map_update_elem(&other_pairs, pair, &no_time, BPF_NOEXIST);
	return bpf_map_lookup_elem(&other_pairs, pair);
}

static __always_inline void charge_pair(__u64 waiter, __u64 preemptor, __u64 ns)
{
	struct pair pair = {.waiter = waiter, .preemptor = preemptor};
	__u64 *total;

	if (preemptor == NOBODY)
		return;
	total = bpf_map_lookup_elem(&pairs, &pair);
	if (!total)
		total = new_pair(&pair);
	if (total)
		__sync_fetch_and_add(total, ns);
	else
		count(lost_pair);
}

/* Who ran at an instant, if no slice newer than `age` holds it; of what is not kept any more, the oldest that is. */
static __always_inline __u64 who_ran_at(struct cpu_slices *cpu, __u64 age, __u64 at)
{
	__u64 step = SLICES / 2;

	/* Ages with a beginning later than the instant are passed over, by halves. */
	for (int i = 0; i < 8; i++) {
		if (age + step < SLICES && slice_of(cpu, age + step - 1)->began_ns > at)
			age += step;
		step /= 2;
	}
	return slice_of(cpu, age)->cgroup_id;
}

/* The whole of it to who ran at one instant of it; `age`: as above. */
static __always_inline void charge_drawn(struct cpu_slices *cpu, __u64 age, __u64 waiter, __u64 from, __u64 to)
{
	__u64 oldest = slice_of(cpu, SLICES - 1)->began_ns;
	__u64 at = from > oldest ? from : oldest;

	/* Older than what is kept. */
	if (at >= to)
		at = to;
	at += (((to - at) >> 16) * bpf_get_prandom_u32()) >> 16;
	charge_pair(waiter, who_ran_at(cpu, age, at), to - from);
}

/* Verified by itself, once and for whatever it is called with: what calls it stays small. */
__noinline int charge_preemptors(struct cpu_slices *cpu, __u64 waiter, __u64 from, __u64 to)
{
	if (!cpu)
		return 0;
	for (__u64 age = 0; age < EXACT_SLICES; age++) {
		struct slice *slice = slice_of(cpu, age);
		__u64 began = slice->began_ns > from ? slice->began_ns : from;

		if (began < to) {
			charge_pair(waiter, slice->cgroup_id, to - began);
			to = began;
		}
		if (slice->began_ns <= from)
			return 0;
	}
	for (__u64 left = DRAWS; left > 0; left--) {
		__u64 part = (to - from) / left;

		charge_drawn(cpu, EXACT_SLICES, waiter, to - part, to);
		to -= part;
	}
	return 0;
}

/* The part of a wait that was not charged yet; whoever takes its beginning charges it. Throttled time was no wait. */
static __always_inline void end_preemption(struct task_state *state, struct cpu_slices *cpu, __u64 waiter, __u64 now)
{
	__u64 from = __sync_lock_test_and_set(&state->preempted_from_ns, 0);
	__u64 began = state->wait_began_ns + state->wait_throttled_ns;

	if (state->wait_throttled_ns && from < began)
		from = began;
	if (from && from < now)
		charge_preemptors(cpu, waiter, from, now);
}

/*
 * The same of a task that waits on, on whatever CPU: at a read, and when it is moved to another queue, where all of it
 * is for who has the CPU at that moment, which nobody who waits or runs there has chosen: the slices of another CPU are
 * cold.
 */
static __always_inline void continue_preemption(struct task_struct *task, struct task_state *state, __u64 waiter,
						__u64 now, bool moves)
{
	__u64 from = *(volatile __u64 *)&state->preempted_from_ns;
	struct task_struct *running;
	struct cpu_slices *cpu;
	__u32 zero = 0;

	if (!from || from >= now || state->wait_throttled_ns || is_throttled(task))
		return;
	cpu = bpf_map_lookup_percpu_elem(&cpus, &zero, cpu_of(task));
	if (!cpu || __sync_val_compare_and_swap(&state->preempted_from_ns, from, now) != from)
		return;
	if (moves) {
		charge_pair(waiter, slice_of(cpu, 0)->cgroup_id, now - from);
		return;
	}
	running = BPF_CORE_READ(task, se.cfs_rq, rq, curr);
	if (running && BPF_CORE_READ(running, pid))
		settle_slice(cpu, cgroup_of_other(running));
	charge_preemptors(cpu, waiter, from, now);
}

#endif
