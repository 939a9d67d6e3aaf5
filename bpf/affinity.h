/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#ifndef SCULPTOR_AFFINITY_H
#define SCULPTOR_AFFINITY_H

struct mask_record {
	__u64 start_boottime_ns;
	__u32 tid;
	__u32 tgid;
	/* 1: a mask of its own, 0: none, -1: this kernel does not tell. */
	__s32 own_mask;
	__u32 pad;
};

#endif
