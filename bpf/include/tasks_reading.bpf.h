/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The iterators that read tasks: they charge what is open, and write out each that has done something. */
#ifndef SCULPTOR_TASKS_READING_BPF_H
#define SCULPTOR_TASKS_READING_BPF_H

#include "awake.bpf.h"
#include "blocked.bpf.h"
#include "charging.bpf.h"
#include "open_times.bpf.h"

/* What is charged at long intervals only: sleeps, user and kernel time. */
static __always_inline void charge_slow(struct task_struct *task, struct task_state *state)
{
	struct instance_totals *totals;

	charge_open_sleep(task, state);
	if (task->utime + task->stime == state->charged_user_ns + state->charged_kernel_ns)
		return;
	totals = totals_of(task);
	if (totals)
		charge_modes(task, state, totals);
}

/* Run once before the hooks are attached: what the tasks of that time have used is not charged to anybody. */
SEC("iter/task")
int baseline(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct task_state *state = task && task->pid ? state_of(task) : NULL;

	if (!state)
		return 0;
	state->charged_user_ns = task->utime;
	state->charged_kernel_ns = task->stime;
	return 0;
}

/* The state of a task of which all is charged, where its totals have changed since they were written out. */
static __always_inline struct task_state *changed_state(struct task_struct *task)
{
	struct task_state *state;

	charge_open(task);
	if (task->exit_state)
		return NULL;
	state = state_of(task);
	if (!state)
		return NULL;
	charge_slow(task, state);
	return state->run_ns + state->wait_ns + state->throttled_ns == state->dumped ? NULL : state;
}

static __always_inline void write_record(struct task_record *record, struct task_struct *task,
					 const struct task_state *state)
{
	record->cgroup_id = cgroup_of(task);
	record->start_boottime_ns = task->start_boottime;
	record->run_ns = state->run_ns;
	record->wait_ns = state->wait_ns;
	record->throttled_ns = state->throttled_ns;
	for (int i = 0; i < BLOCKED_REASONS; i++)
		record->blocked_ns[i] = state->blocked_ns[i];
	record->voluntary_switches = state->voluntary_switches;
	record->involuntary_switches = state->involuntary_switches;
	record->migrations = state->migrations;
	record->node_migrations = state->node_migrations;
	record->grown_ns = record->run_ns + record->wait_ns + record->throttled_ns - state->dumped;
	record->cpu = cpu_of(task);
	record->tid = task->pid;
	record->tgid = task->tgid;
	/* What stood behind a shorter name before is no part of it. */
	__builtin_memset(record->comm, 0, sizeof(record->comm));
	bpf_probe_read_kernel_str(record->comm, sizeof(record->comm), task->comm);
}

static __always_inline void note_written(struct task_state *state, const struct task_record *record)
{
	state->dumped += record->grown_ns;
}

/* Charges all that is open, and writes out the tasks that have done something since the last time. */
SEC("iter/task")
int dump(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct task_record record = {};
	struct task_state *state;

	if (!task || !task->pid)
		return 0;
	state = changed_state(task);
	if (!state)
		return 0;
	write_record(&record, task, state);
	/* A full buffer: the iterator comes back to the task. */
	if (bpf_seq_write(ctx->meta->seq, &record, sizeof(record)) == 0)
		note_written(state, &record);
	return 0;
}

/* What `dump_changed` found, as many as it wrote out; for user space to read without a call. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct task_record);
} changed SEC(".maps");

/* How many it has written. */
__u32 changed_count;

static __noinline void look_again(__u32 tid)
{
	__u32 key = tid / BLOCK_TIDS;
	struct awake_block *block = bpf_map_lookup_elem(&awake, &key);

	if (block)
		keep_taken(block, tid / 64 % BLOCK_WORDS, 1ULL << (tid % 64));
}

/* As flush_tid is verified. Who finds no room is looked at the next time. */
__noinline int dump_tid(__u32 tid)
{
	struct task_record *record;
	struct task_struct *task;
	struct task_state *state;

	if (!can_find_tasks())
		return 0;
	record = bpf_map_lookup_elem(&changed, &changed_count);
	if (!record) {
		look_again(tid);
		return 0;
	}
	task = bpf_task_from_pid(tid);
	if (!task)
		return 0;
	state = changed_state(task);
	if (state) {
		write_record(record, task, state);
		note_written(state, record);
		changed_count += 1;
	}
	bpf_task_release(task);
	return 0;
}

__noinline int dump_word(__u32 first_tid, __u64 bits)
{
	for (__u32 i = 0; i < 64; i++)
		if (bits & (1ULL << i))
			dump_tid(first_tid + i);
	return 0;
}

static long dump_block(__u32 key, void *unused)
{
	struct awake_block *block = bpf_map_lookup_elem(&awake, &key);

	if (!block)
		return 1;
	if (!block->any_taken)
		return 0;
	block->any_taken = 0;
	for (__u32 i = 0; i < BLOCK_WORDS; i++) {
		__u64 bits = block->taken[i];

		block->taken[i] = 0;
		if (bits)
			dump_word(key * BLOCK_TIDS + i * 64, bits);
	}
	return 0;
}

/*
 * As `dump`, of the tasks that `read_totals` has found awake since the last time and no others; sleepers that were
 * moved to another cgroup are left to `dump`. Writes how many records it made: as many as there is room for, and there
 * may be more. It takes nobody up whom it has looked at, so it comes to an end however many are awake.
 */
SEC("iter/task")
int dump_changed(struct bpf_iter__task *ctx)
{
	if (!ctx->task || !can_find_tasks())
		return 0;
	changed_count = 0;
	bpf_loop(MOST_TIDS / BLOCK_TIDS, dump_block, NULL, 0);
	bpf_seq_write(ctx->meta->seq, &changed_count, sizeof(changed_count));
	return 0;
}

#endif
