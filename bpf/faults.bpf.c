// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * How long page faults take, minor and major, per cgroup: from the exception's entry to where the kernel accounts the
 * fault as handled, both in the faulting task. That place is a software event, which every kernel has, also one that
 * allows neither kprobes nor fentry. What faults without an exception (get_user_pages, so also KVM for its guest)
 * is not among them.
 */
#include "include/instance.bpf.h"
#include "include/latency.bpf.h"
#include "faults.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MINOR 0
#define MAJOR 1

/*
 * When the fault of a task that is being handled began; 0: none is. A fault may sleep, and be ended on another CPU.
 * Task storage costs 54 ns at the beginning and 98 ns at the end, net of empty programs; an LRU hash by tid 164 and
 * 212; a slot for each CPU 44 and 83, and then a fault that slept, as each major one, has lost its beginning.
 */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} beginnings SEC(".maps");

/* Key: twice the cgroup's id, and one more for major faults, which most cgroups never have. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct fault_totals);
} faults SEC(".maps");

/*
 * What could not be given a value on each CPU, by the same key: the kernel has memory of that kind for a few entries at
 * hand, and gets more from a worker thread, too late where many cgroups fault for the first time at once. One value
 * for all CPUs comes from where all kernel memory does.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct fault_totals);
} shared_faults SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fault_stats);
} stats SEC(".maps");

static const struct fault_totals no_totals;

#define count(field)                                                                                                   \
	do {                                                                                                           \
		__u32 zero = 0;                                                                                        \
		struct fault_stats *here = bpf_map_lookup_elem(&stats, &zero);                                         \
                                                                                                                       \
		if (here)                                                                                              \
			here->field += 1;                                                                              \
	} while (0)

static __always_inline int begin(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 *began;

	/* Refused at once by the handler, and perhaps in the midst of another fault (a tracer reading user memory). */
	if (task->pagefault_disabled)
		return 0;
	began = bpf_task_storage_get(&beginnings, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (began)
		*began = bpf_ktime_get_ns();
	else
		count(lost_task_storage);
	return 0;
}

SEC("tp_btf/page_fault_user")
int BPF_PROG(page_fault_user)
{
	return begin();
}

SEC("tp_btf/page_fault_kernel")
int BPF_PROG(page_fault_kernel)
{
	return begin();
}

/* Of an instance that has none on each CPU, and cannot get it either. */
static __always_inline struct fault_totals *shared_totals(__u64 key)
{
	struct fault_totals *totals = bpf_map_lookup_elem(&shared_faults, &key);

	if (totals)
		return totals;
	bpf_map_update_elem(&shared_faults, &key, &no_totals, BPF_NOEXIST);
	return bpf_map_lookup_elem(&shared_faults, &key);
}

static __always_inline struct fault_totals *totals_of(struct task_struct *task, __u32 kind)
{
	__u64 key = cgroup_of(task) * 2 + kind;
	struct fault_totals *totals = bpf_map_lookup_elem(&faults, &key);
	long error;

	if (totals)
		return totals;
	error = bpf_map_update_elem(&faults, &key, &no_totals, BPF_NOEXIST);
	totals = bpf_map_lookup_elem(&faults, &key);
	if (totals)
		return totals;
	if (error == -E2BIG) {
		count(lost_instance_full);
		return NULL;
	}
	totals = shared_totals(key);
	if (!totals)
		count(lost_instance_memory);
	return totals;
}

static __always_inline int end(__u32 kind)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 *began = bpf_task_storage_get(&beginnings, task, 0, 0);
	struct fault_totals *totals;
	__u64 latency_ns;

	/* It began before the probe, or was counted as lost at its beginning. */
	if (!began || !*began)
		return 0;
	latency_ns = bpf_ktime_get_ns() - *began;
	*began = 0;
	totals = totals_of(task, kind);
	if (!totals)
		return 0;
	/* Atomic for those that CPUs share; of its own a CPU has them at hand, and it costs next to nothing. */
	__sync_fetch_and_add(&totals->count, 1);
	__sync_fetch_and_add(&totals->sum_ns, latency_ns);
	__sync_fetch_and_add(&totals->slots[latency_slot(latency_ns)], 1);
	return 0;
}

/* PERF_COUNT_SW_PAGE_FAULTS_MIN of each CPU, each of them. */
SEC("perf_event")
int minor_fault(void *ctx)
{
	return end(MINOR);
}

/* PERF_COUNT_SW_PAGE_FAULTS_MAJ. */
SEC("perf_event")
int major_fault(void *ctx)
{
	return end(MAJOR);
}
