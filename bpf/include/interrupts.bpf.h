/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Whether an interrupt wakes a task, and not who happens to be current: how many a CPU is in, of those that wake tasks
 * (devices', timers', and what is done of them later). The kernel's own count (preempt_count) is not to be had where it
 * keeps no symbols of its data.
 */
#ifndef SCULPTOR_INTERRUPTS_BPF_H
#define SCULPTOR_INTERRUPTS_BPF_H

#include "kernel.bpf.h"

#define PF_KTHREAD 0x200000

/* A program that is interrupted by its own hook is left out by the kernel, so a task that gets the CPU begins with
 * none. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} interrupts SEC(".maps");

static __always_inline __u32 *interrupts_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&interrupts, &zero);
}

static __always_inline int enter_interrupt(void)
{
	__u32 *depth = interrupts_here();

	if (depth)
		*depth += 1;
	return 0;
}

/* One that was entered before this program was attached is left too. */
static __always_inline int leave_interrupt(void)
{
	__u32 *depth = interrupts_here();

	if (depth && *depth)
		*depth -= 1;
	return 0;
}

SEC("tp_btf/irq_handler_entry")
int BPF_PROG(outlier_device_entry)
{
	return enter_interrupt();
}

SEC("tp_btf/irq_handler_exit")
int BPF_PROG(outlier_device_exit)
{
	return leave_interrupt();
}

SEC("tp_btf/hrtimer_expire_entry")
int BPF_PROG(outlier_timer_entry)
{
	return enter_interrupt();
}

SEC("tp_btf/hrtimer_expire_exit")
int BPF_PROG(outlier_timer_exit)
{
	return leave_interrupt();
}

SEC("tp_btf/softirq_entry")
int BPF_PROG(outlier_softirq_entry)
{
	return enter_interrupt();
}

SEC("tp_btf/softirq_exit")
int BPF_PROG(outlier_softirq_exit)
{
	return leave_interrupt();
}

/* ksoftirqd/CPU and irq/NUMBER-NAME: woken when the interrupt is over as far as its hooks tell. */
static __always_inline bool continues_interrupt(struct task_struct *task)
{
	const union {
		char text[8];
		__u64 word;
	} softirq = {"ksoftirq"}, irq = {"irq/"};
	__u64 name;

	if (!(task->flags & PF_KTHREAD) || bpf_probe_read_kernel(&name, sizeof(name), task->comm) != 0)
		return false;
	return name == softirq.word || (__u32)name == (__u32)irq.word;
}

#endif
