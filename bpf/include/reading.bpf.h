/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The iterators of sched.bpf.c: what a read charges, and what it writes out of each task. */
#ifndef SCULPTOR_READING_BPF_H
#define SCULPTOR_READING_BPF_H

#include "awake.bpf.h"
#include "blocked.bpf.h"
#include "charging.bpf.h"
#include "preemptors.bpf.h"

/* Longer than it takes from a hook to what the scheduler does after it. */
#define SETTLED_NS 1000000

/* A sleeper whose last switch was not shown has a stamp left, which is no time that it ran or waited. */
static __always_inline void close_stale(struct task_struct *task, struct task_state *state)
{
	__u64 stamp;

	if (!state)
		return;
	stamp = *(volatile __u64 *)&state->stamp;
	if (stamp > NOTHING_OPEN && is_asleep(task) &&
	    __sync_val_compare_and_swap(&state->stamp, stamp, NOTHING_OPEN) == stamp)
		count_unseen_leave(task);
}

static __always_inline void charge(struct task_struct *task, struct task_state *state, __u64 stamp, __u64 now)
{
	__u32 cpu = cpu_of(task);
	struct instance_totals *totals = totals_on(cgroup_of(task), cpu);
	__u64 slice_ns = time_since(stamp, now);

	if (is_wait(stamp))
		charge_wait(task, state, totals, stats_of(cpu), slice_ns, is_throttled(task));
	else
		charge_run(state, totals, slice_ns);
}

/*
 * Charges what is open up to now, and only what task_struct bears out: a kernel may withhold switches from BPF (one was
 * met that runs no program while a thread of process 1 is current), and a stamp that they should have ended is not a
 * time that somebody ran.
 */
static __always_inline void charge_open(struct task_struct *task)
{
	struct task_state *state;
	__u64 now, stamp;

	/*
	 * Of thousands of tasks most sleep: they cost a look, and no more. Both of their last switches can be withheld
	 * of process 1 only; of others one is seen, which puts it right.
	 */
	if (is_asleep(task)) {
		if (task->tgid == WITHHOLDING_PROCESS)
			close_stale(task, bpf_task_storage_get(&tasks, task, 0, 0));
		return;
	}
	mark_awake(task->pid);
	state = state_of(task);
	if (!state)
		return;
	/* The stamp first: a time, or a look at the task, from before it would not belong to it. */
	stamp = *(volatile __u64 *)&state->stamp;
	now = bpf_ktime_get_ns();
	if (!stamp) {
		adopt(task, state, now);
		return;
	}
	/* It runs, and no hook has said so: a switch comes before on_cpu, and leaves it behind for a moment only. */
	if (is_wait(stamp) && task->on_cpu && now > stamp + SETTLED_NS) {
		if (__sync_val_compare_and_swap(&state->stamp, stamp, now & ~WAITING) != stamp)
			return;
		count_unseen_entry(stats_of(cpu_of(task)));
		end_sleep(state, totals_of(task), cgroup_of(task), true, now);
		return;
	}
	now = (now & ~WAITING) | (stamp & WAITING);
	/* A hook is about to speak, or was not heard. */
	if (stamp == NOTHING_OPEN || is_run(stamp) != (task->on_cpu != 0) || now <= stamp)
		return;
	if (__sync_val_compare_and_swap(&state->stamp, stamp, now) == stamp)
		charge(task, state, stamp, now & ~WAITING);
	/* It waits: no sleep is to be charged any longer. */
	if (is_wait(stamp) && state->sleep)
		end_sleep(state, totals_of(task), cgroup_of(task), true, now & ~WAITING);
	if (with_preemptors && is_wait(stamp))
		continue_preemption(task, state, cgroup_of(task), now & ~WAITING, false);
}

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
 * What `read_totals` found, for user space to read without a call: as many as it wrote out, two of an id that has
 * shared totals too.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4608);
	__type(key, __u32);
	__type(value, struct totals_record);
} sums SEC(".maps");

static long add_cpu(__u32 cpu, struct totals_record *sum)
{
	struct instance_totals *totals = bpf_map_lookup_percpu_elem(&instances, &sum->id, cpu);

	if (!totals)
		return 1;
	sum->run_ns += totals->run_ns;
	sum->wait_ns += totals->wait_ns;
	sum->throttled_ns += totals->throttled_ns;
	return 0;
}

static long sum_instance(struct bpf_map *map, __u64 *id, struct instance_totals *here, __u32 *count)
{
	struct totals_record sum = {.id = *id}, *out = bpf_map_lookup_elem(&sums, count);

	if (!out)
		return 1;
	bpf_loop(MOST_CPUS, add_cpu, &sum, 0);
	*out = sum;
	*count += 1;
	return 0;
}

static long copy_shared(struct bpf_map *map, __u64 *id, struct instance_totals *totals, __u32 *count)
{
	struct totals_record *out = bpf_map_lookup_elem(&sums, count);

	if (!out)
		return 1;
	out->id = *id;
	out->run_ns = totals->run_ns;
	out->wait_ns = totals->wait_ns;
	out->throttled_ns = totals->throttled_ns;
	*count += 1;
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
	bpf_for_each_map_elem(&instances, sum_instance, &count, 0);
	bpf_for_each_map_elem(&shared_instances, copy_shared, &count, 0);
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

/* What is charged at long intervals only: sleeps, user and kernel time. */
static __always_inline void charge_slow(struct task_struct *task, struct task_state *state)
{
	struct instance_totals *totals;

	close_stale(task, state);
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
