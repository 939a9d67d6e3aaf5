/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What kvm.bpf.c and src/agent/probes/kvm.ts share; a test holds the decoder against this layout's BTF. */
#ifndef SCULPTOR_KVM_H
#define SCULPTOR_KVM_H

#include <linux/types.h>

/* SVM's codes below 0xa8 and VMX's basic reasons are slots of their own; then SVM's from 0x400 on, and all others. */
#define LOW_EXITS	0xa8
#define HIGH_EXITS	0x400
#define HIGH_EXIT_SLOTS 7
#define OTHER_EXIT	(LOW_EXITS + HIGH_EXIT_SLOTS)
#define EXIT_SLOTS	(OTHER_EXIT + 1)

struct exit_totals {
	__u64 count;
	__u64 handled_ns;
};

/* One vCPU thread since its first exit that was seen; ns. */
struct vcpu_totals {
	__u64 halt_ns;
	__u64 halts;
	__u64 wakeup_ns;
	__u64 wakeups;
	struct exit_totals exits[EXIT_SLOTS];
};

/* What the `dump` iterator writes before the totals of a thread. */
struct vcpu_record {
	__u64 cgroup_id;
	__u64 start_boottime_ns;
	__u32 tid;
	__u32 tgid;
	/* The order in which KVM made it, from 0. */
	__u32 index;
	/* KVM_ISA_…: what the numbers of its exits mean. */
	__u32 isa;
};

#endif
