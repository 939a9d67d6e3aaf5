// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Why vCPUs leave their guests, how long the host takes to let them back in, how long they are halted, and how late
 * they are after a halt: per vCPU thread, which alone writes to its totals, in the context of its own.
 *
 * From an exit to the next entry the thread is halted (KVM says how long, and whether it slept), waits in a run queue
 * (the scheduler's own account of the thread), or handles the exit, in KVM or in the program that runs the machine. A
 * halt as KVM measures it ends when the thread runs again, so what it waited in the run queue is taken off.
 */
#include "include/instance.bpf.h"
#include "include/core_fixes.bpf.h"
#include "include/kvm.bpf.h"
#include "kvm.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct vcpu_state {
	/* When the guest was left; 0: it is in there, or was never seen to leave. */
	__u64 exit_ns;
	/* What the thread had waited in run queues then, and what it has been found to since. */
	__u64 queued_at_exit_ns;
	__u64 queued_ns;
	__u64 halted_ns;
	/* When the last halt since the exit had ended, 0: there was none; and what the thread waited at its end. */
	__u64 woken_ns;
	__u64 woken_wait_ns;
	__u32 slot;
	__u32 index;
	__u32 isa;
	__u32 padding;
	struct vcpu_totals totals;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct vcpu_state);
} vcpus SEC(".maps");

/* Exits of vCPUs for whose state there was no memory. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost_memory SEC(".maps");

static __always_inline __u32 slot_of(__u32 code)
{
	if (code < LOW_EXITS)
		return code;
	if (code >= HIGH_EXITS && code < HIGH_EXITS + HIGH_EXIT_SLOTS)
		return LOW_EXITS + (code - HIGH_EXITS);
	return OTHER_EXIT;
}

SEC("tp_btf/kvm_exit")
int BPF_PROG(kvm_exit, struct kvm_vcpu *vcpu, __u32 isa)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct vcpu_state *state = bpf_task_storage_get(&vcpus, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	__u32 slot;

	/* Never null; the verifiers of some kernels take any argument of a module's tracepoint for one that may be. */
	if (!vcpu)
		return 0;
	if (!state) {
		__u32 zero = 0;
		__u64 *lost = bpf_map_lookup_elem(&lost_memory, &zero);

		if (lost)
			*lost += 1;
		return 0;
	}
	slot = slot_of(exit_code(vcpu, isa));
	/* The compiler knows that it is less, and the verifier does not. */
	asm volatile("" : "+r"(slot));
	if (slot >= EXIT_SLOTS)
		return 0;
	state->exit_ns = bpf_ktime_get_ns();
	state->queued_at_exit_ns = queued_ns(task);
	state->queued_ns = state->queued_at_exit_ns;
	state->halted_ns = 0;
	state->woken_ns = 0;
	state->slot = slot;
	state->index = vcpu->vcpu_idx;
	state->isa = isa;
	state->totals.exits[slot].count += 1;
	return 0;
}

/* The end of a halt, in the vCPU's thread: `halt_ns` since its beginning, with the polling that came before any sleep.
 */
SEC("tp_btf/kvm_vcpu_wakeup")
int BPF_PROG(kvm_vcpu_wakeup, __u64 halt_ns)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct vcpu_state *state = bpf_task_storage_get(&vcpus, task, 0, 0);
	__u64 queued, waited_ns;

	if (!state || !state->exit_ns)
		return 0;
	queued = queued_ns(task);
	waited_ns = queued - state->queued_ns;
	state->queued_ns = queued;
	state->woken_ns = bpf_ktime_get_ns();
	state->woken_wait_ns = waited_ns;
	halt_ns = halt_ns > waited_ns ? halt_ns - waited_ns : 0;
	state->halted_ns += halt_ns;
	state->totals.halt_ns += halt_ns;
	state->totals.halts += 1;
	return 0;
}

/*
 * KVM gives the thread back to who runs the machine: when that enters again is its own affair, as where the machine was
 * paused by the signal that ended the halt.
 */
SEC("tp_btf/kvm_userspace_exit")
int BPF_PROG(kvm_userspace_exit)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct vcpu_state *state = bpf_task_storage_get(&vcpus, task, 0, 0);

	if (state)
		state->woken_ns = 0;
	return 0;
}

SEC("tp_btf/kvm_entry")
int BPF_PROG(kvm_entry)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct vcpu_state *state = bpf_task_storage_get(&vcpus, task, 0, 0);
	__u64 now, away_ns, other_ns;
	__u32 slot;

	if (!state || !state->exit_ns)
		return 0;
	slot = *(volatile __u32 *)&state->slot;
	if (slot >= EXIT_SLOTS)
		return 0;
	now = bpf_ktime_get_ns();
	away_ns = now - state->exit_ns;
	other_ns = state->halted_ns + queued_ns(task) - state->queued_at_exit_ns;
	if (away_ns > other_ns)
		state->totals.exits[slot].handled_ns += away_ns - other_ns;
	if (state->woken_ns) {
		state->totals.wakeup_ns += state->woken_wait_ns + (now - state->woken_ns);
		state->totals.wakeups += 1;
	}
	state->exit_ns = 0;
	return 0;
}

/* Not inlined, so that the record's layout stays in the object's BTF. A full buffer: the iterator comes back to the
 * task. */
static __noinline int write_record(struct seq_file *out, const struct vcpu_record *record)
{
	return bpf_seq_write(out, record, sizeof(*record));
}

SEC("iter/task")
int dump(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct vcpu_record record = {};
	struct vcpu_state *state;

	if (!task)
		return 0;
	state = bpf_task_storage_get(&vcpus, task, 0, 0);
	if (!state)
		return 0;
	record.cgroup_id = cgroup_of(task);
	record.start_boottime_ns = task->start_boottime;
	record.tid = task->pid;
	record.tgid = task->tgid;
	record.index = state->index;
	record.isa = state->isa;
	write_record(ctx->meta->seq, &record);
	bpf_seq_write(ctx->meta->seq, &state->totals, sizeof(state->totals));
	return 0;
}
