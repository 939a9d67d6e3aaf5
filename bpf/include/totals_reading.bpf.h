/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The iterators that read instances: they charge what is open, and sum each over the CPUs. */
#ifndef SCULPTOR_TOTALS_READING_BPF_H
#define SCULPTOR_TOTALS_READING_BPF_H

#include "awake.bpf.h"
#include "blocked.bpf.h"
#include "open_times.bpf.h"
#include "sums.bpf.h"

SEC("iter/task")
int flush(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (task && task->pid)
		charge_open(task);
	return 0;
}

/*
 * These are verified one by one, so that loops around them stay small; each has to be sound on a kernel that lacks what
 * it calls, though nobody calls it there.
 */
__noinline int flush_tid(__u32 tid)
{
	struct task_struct *task;

	if (!can_find_tasks())
		return 0;
	task = bpf_task_from_pid(tid);
	if (!task)
		return 0;
	charge_open(task);
	bpf_task_release(task);
	return 0;
}

__noinline int flush_word(__u32 first_tid, __u64 bits)
{
	for (__u32 i = 0; i < 64; i++)
		if (bits & (1ULL << i))
			flush_tid(first_tid + i);
	return 0;
}

static long flush_block(__u32 key, void *unused)
{
	struct awake_block *block = bpf_map_lookup_elem(&awake, &key);

	if (!block)
		return 1;
	if (!*(volatile __u64 *)&block->any)
		return 0;
	__sync_lock_test_and_set(&block->any, 0);
	for (__u32 i = 0; i < BLOCK_WORDS; i++) {
		__u64 bits = take_awake(block, i);

		if (!bits)
			continue;
		keep_taken(block, i, bits);
		flush_word(key * BLOCK_TIDS + i * 64, bits);
	}
	return 0;
}

/*
 * Charges what is open of the tasks that have woken since the last time, where the kernel can find them, then sums what
 * is read of each instance every time over the CPUs: the histograms beside it are many times as large. It and those
 * below without a task of their own are run for one task, whichever: iterators over the entries of a map may write to
 * them, which a kernel may refuse to allow.
 */
SEC("iter/task")
int read_totals(struct bpf_iter__task *ctx)
{
	__u32 count = 0;

	if (!ctx->task)
		return 0;
	if (can_find_tasks())
		bpf_loop(MOST_TIDS / BLOCK_TIDS, flush_block, NULL, 0);
	sum_instances(&count);
	bpf_seq_write(ctx->meta->seq, &count, sizeof(count));
	return 0;
}

struct sleeps {
	__u64 id;
	__u64 now;
	__u64 charged_ns[BLOCKED_REASONS];
	__u64 lasted_ns[BLOCKED_REASONS];
};

static __always_inline void add_sleeps(const struct instance_totals *totals, struct sleeps *sleeps)
{
	for (int i = 0; i < BLOCKED_REASONS; i++) {
		sleeps->charged_ns[i] += totals->blocked_ns[i];
		sleeps->lasted_ns[i] += totals->slept_ns[i] + totals->sleepers[i] * (sleeps->now + LATER);
	}
}

static long add_sleeps_of_cpu(__u32 cpu, struct sleeps *sleeps)
{
	struct instance_totals *totals = bpf_map_lookup_percpu_elem(&instances, &sleeps->id, cpu);

	if (!totals)
		return 1;
	add_sleeps(totals, sleeps);
	return 0;
}

/* What is off by a time that was half counted is charged by the next read, with all since. */
static __always_inline void charge_sleeps(struct instance_totals *totals, const struct sleeps *sleeps)
{
	for (int i = 0; i < BLOCKED_REASONS; i++) {
		__u64 slice_ns = sleeps->lasted_ns[i] - sleeps->charged_ns[i];

		if (slice_ns < LATER / 2)
			__sync_fetch_and_add(&totals->blocked_ns[i], slice_ns);
	}
}

static long settle_instance(struct bpf_map *map, __u64 *id, struct instance_totals *here, __u64 *now)
{
	struct sleeps sleeps = {.id = *id, .now = *now};
	struct instance_totals *shared;

	bpf_loop(MOST_CPUS, add_sleeps_of_cpu, &sleeps, 0);
	shared = bpf_map_lookup_elem(&shared_instances, &sleeps.id);
	if (shared)
		add_sleeps(shared, &sleeps);
	charge_sleeps(here, &sleeps);
	return 0;
}

static long settle_shared(struct bpf_map *map, __u64 *id, struct instance_totals *totals, __u64 *now)
{
	struct sleeps sleeps = {.id = *id, .now = *now};

	if (bpf_map_lookup_elem(&instances, &sleeps.id))
		return 0;
	add_sleeps(totals, &sleeps);
	charge_sleeps(totals, &sleeps);
	return 0;
}

/* Charges the instances for all sleeps, up to now: for the reads of details, after those of tasks. */
SEC("iter/task")
int settle_sleeps(struct bpf_iter__task *ctx)
{
	__u64 now = bpf_ktime_get_ns();

	if (!ctx->task)
		return 0;
	bpf_for_each_map_elem(&instances, settle_instance, &now, 0);
	bpf_for_each_map_elem(&shared_instances, settle_shared, &now, 0);
	return 0;
}

#endif
