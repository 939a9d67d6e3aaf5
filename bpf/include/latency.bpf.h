/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Which slot of the histogram a latency belongs to, in whole numbers and exactly. */
#ifndef SCULPTOR_LATENCY_BPF_H
#define SCULPTOR_LATENCY_BPF_H

#include "kernel.bpf.h"
#include "latency_bounds.h"

/* Of what is below 2^63. Without branches: a processor foresees none of them, since latencies differ. */
static __always_inline __u32 log2_floor(__u64 value)
{
	__u32 log = 0;

#pragma unroll
	for (__u32 bits = 32; bits > 0; bits /= 2) {
		/* 1 where it has more than so many bits. */
		__u64 more = ((1ULL << bits) - 1 - value) >> 63;

		value >>= more * bits;
		log += more * bits;
	}
	return log;
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
