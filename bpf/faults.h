/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What faults.bpf.c and src/agent/probes/faults.ts share; a test holds the decoder against this layout's BTF. */
#ifndef SCULPTOR_FAULTS_H
#define SCULPTOR_FAULTS_H

#include <linux/types.h>

/* Faults of one kind, of one cgroup on one CPU, since the first of them. */
struct fault_totals {
	__u64 count;
	__u64 sum_ns;
	__u64 slots[LATENCY_SLOTS];
};

/* What one CPU has counted since the probe was loaded. */
struct fault_stats {
	/* A task's storage could not be had: out of memory, or the hook met itself. */
	__u64 lost_task_storage;
	/* What could not be charged to its instance: the map is full, or there was no memory for another entry. */
	__u64 lost_instance_full;
	__u64 lost_instance_memory;
};

#endif
