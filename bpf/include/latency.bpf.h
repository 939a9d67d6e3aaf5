/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Which slot of the histogram a latency belongs to, in whole numbers and exactly. */
#ifndef SCULPTOR_LATENCY_BPF_H
#define SCULPTOR_LATENCY_BPF_H

#include "kernel.bpf.h"
#include "latency_bounds.h"

static __always_inline __u32 log2_floor(__u64 value)
{
	__u32 log = 0;

	if (value >> 32) {
		value >>= 32;
		log += 32;
	}
	if (value >> 16) {
		value >>= 16;
		log += 16;
	}
	if (value >> 8) {
		value >>= 8;
		log += 8;
	}
	if (value >> 4) {
		value >>= 4;
		log += 4;
	}
	if (value >> 2) {
		value >>= 2;
		log += 2;
	}
	return log + (value >> 1);
}

/*
 * 2^30 / 10^9 is 0.103 octaves, 0.41 slots: ns of the octave n lies in one of the five slots from 4n on. Slot 0 also
 * takes a latency of 0 (all of it was throttled), the last one takes what is longer than 2^10 s.
 */
static __always_inline __u32 latency_slot(__u64 ns)
{
	__u32 slot = 4 * log2_floor(ns | 1);

#pragma unroll
	for (int i = 0; i < 4; i++) {
		if (slot >= LATENCY_SLOTS - 1)
			return LATENCY_SLOTS - 1;
		if (ns <= latency_bounds_ns[slot])
			return slot;
		slot++;
	}
	return slot < LATENCY_SLOTS ? slot : LATENCY_SLOTS - 1;
}

#endif
