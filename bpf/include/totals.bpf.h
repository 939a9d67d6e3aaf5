/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The totals of cgroups and what is counted of the program itself: where they lie, and how they are charged. */
#ifndef SCULPTOR_TOTALS_BPF_H
#define SCULPTOR_TOTALS_BPF_H

#include "instance.bpf.h"
#include "latency.bpf.h"
#include "../sched.h"

/* Lowest bit of a stamp: the interval is one of waiting, else of running. */
#define WAITING 1ULL
/* Stamps up to here are no time: 0, nothing is known of the task yet; this one, it sleeps or has ended. */
#define NOTHING_OPEN 1ULL

static __always_inline bool is_wait(__u64 stamp)
{
	return stamp > NOTHING_OPEN && (stamp & WAITING);
}

static __always_inline bool is_run(__u64 stamp)
{
	return stamp > NOTHING_OPEN && !(stamp & WAITING);
}

static __always_inline __u64 time_since(__u64 stamp, __u64 now)
{
	__u64 began = stamp & ~WAITING;

	/* Clocks of two CPUs may differ by a little. */
	return now > began ? now - began : 0;
}

/* CONFIG_NR_CPUS is at most this on x86-64; a power of two. */
#define MOST_CPUS 8192

/* Allocated as instances come: 1.4 KB each and CPU, and none for those that a host could have and has not. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct instance_totals);
} instances SEC(".maps");

/*
 * What could not be charged there: the kernel has memory for each CPU at hand for a few entries, and gets more from a
 * worker thread, too late where many cgroups run for the first time at once. One value for all CPUs; who has both is
 * told their sum. Allocated beforehand (0.8 MB), since one balancing of the load moves more new ones than a hook finds
 * memory for: of 1000 cgroups that began at once up to 289 came here.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__type(key, __u64);
	__type(value, struct instance_totals);
} shared_instances SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct probe_stats);
} stats SEC(".maps");

static const struct instance_totals no_totals;

/* The memory node of each CPU. */
const volatile __u16 node_of_cpu[MOST_CPUS];

static __always_inline struct probe_stats *own_stats(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&stats, &zero);
}

static __always_inline struct probe_stats *stats_of(__u32 cpu)
{
	__u32 zero = 0;

	return bpf_map_lookup_percpu_elem(&stats, &zero, cpu);
}

#define count(field)                                                                                                   \
	do {                                                                                                           \
		struct probe_stats *own = own_stats();                                                                 \
                                                                                                                       \
		if (own)                                                                                               \
			own->field += 1;                                                                               \
	} while (0)

static __noinline struct instance_totals *shared_totals(__u64 id)
{
	bpf_map_update_elem(&shared_instances, &id, &no_totals, BPF_NOEXIST);
	return bpf_map_lookup_elem(&shared_instances, &id);
}

/*
 * CPUs may share them, and a read charges those of another CPU, so all that is added is added atomically; of its own a
 * CPU has them at hand, and it costs next to nothing.
 */
static __always_inline struct instance_totals *totals_by_id(__u64 id)
{
	struct instance_totals *totals = bpf_map_lookup_elem(&instances, &id);
	long error;

	if (totals)
		return totals;
	error = bpf_map_update_elem(&instances, &id, &no_totals, BPF_NOEXIST);
	totals = bpf_map_lookup_elem(&instances, &id);
	if (totals)
		return totals;
	if (error == -E2BIG) {
		count(lost_instance_full);
		return NULL;
	}
	totals = shared_totals(id);
	if (!totals)
		count(lost_instance_memory);
	return totals;
}

/* Of a CPU, whichever CPU charges it. */
static __always_inline struct instance_totals *totals_on(__u64 id, __u32 cpu)
{
	struct instance_totals *totals = bpf_map_lookup_percpu_elem(&instances, &id, cpu);

	return totals ? totals : totals_by_id(id);
}

/* Of waits of which only the number and the sum are known, each counts as their mean. */
static __always_inline void record_latencies(struct instance_totals *totals, __u64 count, __u64 sum_ns)
{
	__sync_fetch_and_add(&totals->latency_count, count);
	__sync_fetch_and_add(&totals->latency_sum_ns, sum_ns);
	__sync_fetch_and_add(&totals->slots[latency_slot(sum_ns / count)], count);
}

#endif
