/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Which tasks have woken of late: a bit for each tid. A read of the totals looks at these alone, since a sleeper has
 * nothing open, and of thousands of tasks most sleep. Bits are set by who finds a task awake and taken by the read,
 * which sets them again where the task is awake still; so a task that wakes often costs its hook one look. What was
 * taken is kept for the reads of details, which are seldom, and look at all that were awake since the last of them.
 */
#ifndef SCULPTOR_AWAKE_BPF_H
#define SCULPTOR_AWAKE_BPF_H

#include "kernel.bpf.h"

/* PID_MAX_LIMIT of 64-bit kernels. */
#define MOST_TIDS   (4 << 20)
#define BLOCK_WORDS 64
#define BLOCK_TIDS  (BLOCK_WORDS * 64)

struct awake_block {
	/* Whether a bit was set since the read was here. */
	__u64 any;
	__u64 words[BLOCK_WORDS];
	/* The same of those that were taken, for the reads of details; hooks do not write here. */
	__u64 any_taken;
	__u64 taken[BLOCK_WORDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MOST_TIDS / BLOCK_TIDS);
	__type(key, __u32);
	__type(value, struct awake_block);
} awake SEC(".maps");

/* To be called after an atomic operation that follows the wake-up: the read clears before it looks at the task. */
static __always_inline void mark_awake(__u32 tid)
{
	__u32 key = tid / BLOCK_TIDS;
	struct awake_block *block = bpf_map_lookup_elem(&awake, &key);
	__u64 bit = 1ULL << (tid % 64), *word;

	if (!block)
		return;
	word = &block->words[tid / 64 % BLOCK_WORDS];
	if (*(volatile __u64 *)word & bit)
		return;
	__sync_fetch_and_or(word, bit);
	*(volatile __u64 *)&block->any = 1;
}

/* Takes the bits of the nth word, by the read. */
static __always_inline __u64 take_awake(struct awake_block *block, __u32 nth)
{
	__u64 *word = &block->words[nth];

	return *(volatile __u64 *)word ? __sync_lock_test_and_set(word, 0) : 0;
}

/* Keeps what was taken for the reads of details. */
static __always_inline void keep_taken(struct awake_block *block, __u32 nth, __u64 bits)
{
	block->taken[nth] |= bits;
	block->any_taken = 1;
}

#endif
