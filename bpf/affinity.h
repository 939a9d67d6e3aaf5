/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#ifndef SCULPTOR_AFFINITY_H
#define SCULPTOR_AFFINITY_H

/* One for each task; behind it the mask that the task asked for, in words of 64 CPUs. */
struct mask_record {
	__u64 start_boottime_ns;
	__u32 tid;
	__u32 tgid;
	/* 1: a mask of its own, 0: none, -1: this kernel does not tell. */
	__s32 own_mask;
	/* How many of those words follow. */
	__u32 words;
};

#endif
