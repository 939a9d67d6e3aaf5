/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What block.bpf.c and src/agent/probes/block.ts share; a test holds the decoder against this layout's BTF. */
#ifndef SCULPTOR_BLOCK_H
#define SCULPTOR_BLOCK_H

#include <linux/types.h>

#define BLOCK_READ    0
#define BLOCK_WRITE   1
#define BLOCK_FLUSH   2
#define BLOCK_DISCARD 3

struct block_key {
	__u64 cgroup_id;
	/* major << 20 | minor of the whole disk, as the kernel has it. */
	__u32 device;
	/* BLOCK_… */
	__u32 direction;
};

/* Operations that have ended, of one key, over all CPUs. Each is in both histograms once. */
struct block_totals {
	__u64 operations;
	__u64 bytes;
	__u64 queue_sum_ns;
	__u64 device_sum_ns;
	__u64 queue_slots[LATENCY_SLOTS];
	__u64 device_slots[LATENCY_SLOTS];
};

/* What one CPU has counted since the probe was loaded. */
struct block_stats {
	/* Requests that did not go straight from a queue to a device to their end. */
	__u64 merged;
	__u64 requeued;
	__u64 in_parts;
	__u64 failed;
	/* Issued, and not followed: too many are under way. They end unseen, too. */
	__u64 lost_full;
	/* Ended, and nothing was known of them. */
	__u64 lost_unseen;
	/* Their memory was used again, and no end was seen. */
	__u64 lost_unfinished;
	/* What could not be charged to its instance: the map is full, or there was no memory for another entry. */
	__u64 lost_totals_full;
	__u64 lost_totals_memory;
};

#endif
