// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Waits for a CPU that were longer than asked for, one by one: who woke the task, who had the CPU, and where. What a
 * quota held a task back is no wait, as in sched.bpf.c. Attached only where somebody asks. What an instance may tell is
 * limited here, so that a storm costs a counter.
 */
#include "include/instance.bpf.h"
#include "include/interrupts.bpf.h"
#include "include/throttled.bpf.h"
#include "outliers.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile __u64 threshold_ns = 10000000;
const volatile __u64 most_per_second = 10;

#define SECOND_NS 1000000000ULL

struct wait {
	/* When it began, or came to another CPU; 0: it does not wait. */
	__u64 since_ns;
	/* Of what was before that. */
	__u64 waited_ns;
	__u64 throttled_ns;
	struct throttle_account throttling;
	__u32 began;
	__u32 padding;
	struct party waker;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct wait);
} waits SEC(".maps");

/*
 * Instances that had an outlier lately; one that falls out begins a new second. A second, in the upper half, and how
 * many were told in it: one word, since CPUs come to a new second at the same tick.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u64);
} budgets SEC(".maps");

/* Those that were not read yet, by a number of their own. User space reads and deletes them. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct outlier);
} outliers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct outlier_stats);
} stats SEC(".maps");

__u64 next_number;

#define count(field)                                                                                                   \
	do {                                                                                                           \
		__u32 zero = 0;                                                                                        \
		struct outlier_stats *here = bpf_map_lookup_elem(&stats, &zero);                                       \
                                                                                                                       \
		if (here)                                                                                              \
			here->field += 1;                                                                              \
	} while (0)

static __always_inline void describe(struct party *party, struct task_struct *task)
{
	party->cgroup_id = cgroup_of(task);
	party->tid = task->pid;
	party->tgid = task->tgid;
	bpf_probe_read_kernel_str(party->comm, sizeof(party->comm), task->comm);
}

static __always_inline void begin_wait(struct wait *wait, struct task_struct *task, enum wait_began began, __u64 now)
{
	wait->since_ns = now;
	wait->waited_ns = 0;
	wait->throttled_ns = 0;
	wait->began = began;
	follow_throttling(&wait->throttling, task);
}

/* Charges what has passed since it began or was charged last. */
static __always_inline void charge_wait(struct wait *wait, struct task_struct *task, bool held, __u64 now)
{
	__u64 slice_ns = now > wait->since_ns ? now - wait->since_ns : 0;
	__u64 throttled = throttled_part(&wait->throttling, task, slice_ns, held);

	wait->since_ns = now;
	wait->waited_ns += slice_ns - throttled;
	wait->throttled_ns += throttled;
}

/* Nobody where an interrupt wakes: whom it interrupts has nothing to do with it. */
static __always_inline void note_waker(struct wait *wait, struct task_struct *task)
{
	__u32 *depth = interrupts_here();

	wait->waker.tid = 0;
	if (depth && !*depth && !continues_interrupt(task))
		describe(&wait->waker, bpf_get_current_task_btf());
}

/* Who wakes is current here, and need not be below: another CPU may put the task into its queue, in an interrupt. */
SEC("tp_btf/sched_waking")
int BPF_PROG(outlier_waking, struct task_struct *task)
{
	struct wait *wait = bpf_task_storage_get(&waits, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (wait && !wait->since_ns)
		note_waker(wait, task);
	return 0;
}

static __always_inline int woken(struct task_struct *task, bool is_new)
{
	struct wait *wait = bpf_task_storage_get(&waits, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!wait) {
		count(memory);
		return 0;
	}
	/* Already waiting: a wake-up of one that had not gone to sleep. */
	if (wait->since_ns)
		return 0;
	/* Of a new task there is no sched_waking. */
	if (is_new)
		note_waker(wait, task);
	begin_wait(wait, task, BEGAN_WOKEN, bpf_ktime_get_ns());
	return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(outlier_wakeup, struct task_struct *task)
{
	return woken(task, false);
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(outlier_wakeup_new, struct task_struct *task)
{
	return woken(task, true);
}

/* Whether the instance may tell one more in this second. */
static __always_inline bool may_tell(__u64 cgroup_id, __u64 now)
{
	__u64 fresh = now / SECOND_NS << 32, before;
	__u64 *budget = bpf_map_lookup_elem(&budgets, &cgroup_id);

	if (!budget) {
		bpf_map_update_elem(&budgets, &cgroup_id, &fresh, BPF_NOEXIST);
		budget = bpf_map_lookup_elem(&budgets, &cgroup_id);
	}
	if (!budget) {
		count(memory);
		return most_per_second > 0;
	}
	before = *(volatile __u64 *)budget;
	/* Whoever is first; the second of another CPU may be over already. */
	if (before < fresh)
		__sync_val_compare_and_swap(budget, before, fresh);
	return (__u32)__sync_fetch_and_add(budget, 1) < most_per_second;
}

static __always_inline void tell(void *ctx, struct task_struct *prev, struct task_struct *next, struct wait *wait,
				 __u64 now)
{
	struct outlier outlier = {};
	__u64 number;

	describe(&outlier.waiter, next);
	if (!may_tell(outlier.waiter.cgroup_id, now)) {
		count(limited);
		return;
	}
	outlier.ended_ns = now;
	outlier.latency_ns = wait->waited_ns;
	outlier.throttled_ns = wait->throttled_ns;
	outlier.start_boottime_ns = next->start_boottime;
	outlier.began = wait->began;
	outlier.waker = wait->waker;
	if (prev->pid)
		describe(&outlier.preemptor, prev);
	outlier.cpu = bpf_get_smp_processor_id();
	outlier.stack_bytes = bpf_get_stack(ctx, outlier.stack, sizeof(outlier.stack), 0);
	number = __sync_fetch_and_add(&next_number, 1);
	if (bpf_map_update_elem(&outliers, &number, &outlier, BPF_NOEXIST) != 0)
		count(full);
}

/*
 * One that was preempted, or whose quota is used up, waits from here on; any other begins its wait with the next
 * wake-up, whatever was noted of it: a wake-up of one that had not gone to sleep yet, or one from before this program
 * was attached.
 */
static __always_inline void leave(struct task_struct *task, bool still_runnable, __u64 now)
{
	struct wait *wait;

	if (!task->pid)
		return;
	wait = bpf_task_storage_get(&waits, task, 0, still_runnable ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	if (!wait) {
		if (still_runnable)
			count(memory);
		return;
	}
	wait->since_ns = 0;
	if (!still_runnable)
		return;
	begin_wait(wait, task, is_throttled(task) ? BEGAN_THROTTLED : BEGAN_PREEMPTED, now);
	wait->waker.tid = 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(outlier_switch, bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 *depth = interrupts_here();
	struct wait *wait;

	if (depth)
		*depth = 0;
	leave(prev, preempt || prev_state == 0, now);
	wait = next->pid ? bpf_task_storage_get(&waits, next, 0, 0) : NULL;
	if (!wait || !wait->since_ns)
		return 0;
	/* What was throttled is looked at only where it matters. */
	if (now > wait->since_ns && wait->waited_ns + now - wait->since_ns >= threshold_ns) {
		charge_wait(wait, next, false, now);
		if (wait->waited_ns >= threshold_ns) {
			count(found);
			tell(ctx, prev, next, wait, now);
		}
	}
	wait->since_ns = 0;
	wait->waker.tid = 0;
	return 0;
}

/* Another run queue has its own account of throttled time. */
SEC("tp_btf/sched_migrate_task")
int BPF_PROG(outlier_migrate_task, struct task_struct *task, int destination)
{
	struct wait *wait = bpf_task_storage_get(&waits, task, 0, 0);

	if (!wait || !wait->since_ns)
		return 0;
	charge_wait(wait, task, is_throttled(task), bpf_ktime_get_ns());
	follow_other_queue(&wait->throttling, task, destination);
	return 0;
}
