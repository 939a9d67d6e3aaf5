// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Which tasks have a CPU mask of their own, and which: what a mask is given back as depends on it. */
#include "include/kernel.bpf.h"
#include "include/core_fixes.bpf.h"
#include "affinity.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Tasks without one are left out: most of thousands. */
const volatile bool only_own = false;

/* Words of a mask: what the kernel allocates for as many CPUs as there may ever be. 0: masks are not told. */
const volatile __u32 mask_words = 0;

/* The largest NR_CPUS that Linux can be built with is 8192. */
#define MAX_MASK_WORDS 128

/* Not inlined, so that the record's layout stays in the object's BTF. */
static __noinline void write_record(struct seq_file *out, const struct mask_record *record)
{
	bpf_seq_write(out, record, sizeof(*record));
}

static void write_mask(struct seq_file *out, __u64 mask)
{
	for (__u32 i = 0; i < MAX_MASK_WORDS && i < mask_words; i++) {
		__u64 word = 0;

		bpf_probe_read_kernel(&word, sizeof(word), (const void *)(mask + i * sizeof(word)));
		bpf_seq_write(out, &word, sizeof(word));
	}
}

SEC("iter/task")
int own_masks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct mask_record record = {};
	__u64 asked;

	if (!task)
		return 0;
	record.own_mask = own_mask(task);
	if (only_own && !record.own_mask)
		return 0;
	record.start_boottime_ns = task->start_boottime;
	record.tid = task->pid;
	record.tgid = task->tgid;
	asked = asked_mask(task);
	record.words = asked ? mask_words : 0;
	write_record(ctx->meta->seq, &record);
	if (asked)
		write_mask(ctx->meta->seq, asked);
	return 0;
}
