/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What is read of each instance every time, over all CPUs. */
#ifndef SCULPTOR_SUMS_BPF_H
#define SCULPTOR_SUMS_BPF_H

#include "totals.bpf.h"

/*
 * What `read_totals` found, for user space to read without a call: as many as it wrote out, two of an id that has
 * shared totals too.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4608);
	__type(key, __u32);
	__type(value, struct totals_record);
} sums SEC(".maps");

static long add_cpu(__u32 cpu, struct totals_record *sum)
{
	struct instance_totals *totals = bpf_map_lookup_percpu_elem(&instances, &sum->id, cpu);

	if (!totals)
		return 1;
	sum->run_ns += totals->run_ns;
	sum->wait_ns += totals->wait_ns;
	sum->throttled_ns += totals->throttled_ns;
	return 0;
}

static long sum_instance(struct bpf_map *map, __u64 *id, struct instance_totals *here, __u32 *count)
{
	struct totals_record sum = {.id = *id}, *out = bpf_map_lookup_elem(&sums, count);

	if (!out)
		return 1;
	bpf_loop(MOST_CPUS, add_cpu, &sum, 0);
	*out = sum;
	*count += 1;
	return 0;
}

static long copy_shared(struct bpf_map *map, __u64 *id, struct instance_totals *totals, __u32 *count)
{
	struct totals_record *out = bpf_map_lookup_elem(&sums, count);

	if (!out)
		return 1;
	out->id = *id;
	out->run_ns = totals->run_ns;
	out->wait_ns = totals->wait_ns;
	out->throttled_ns = totals->throttled_ns;
	*count += 1;
	return 0;
}

static __always_inline void sum_instances(__u32 *count)
{
	bpf_for_each_map_elem(&instances, sum_instance, count, 0);
	bpf_for_each_map_elem(&shared_instances, copy_shared, count, 0);
}

#endif
