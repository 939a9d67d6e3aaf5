// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Which tasks have a CPU mask of their own: what a mask is given back as depends on it. */
#include "include/kernel.bpf.h"
#include "include/core_fixes.bpf.h"
#include "affinity.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Tasks without one are left out: most of thousands. */
const volatile bool only_own = false;

/* Not inlined, so that the record's layout stays in the object's BTF. */
static __noinline void write_record(struct seq_file *out, const struct mask_record *record)
{
	bpf_seq_write(out, record, sizeof(*record));
}

SEC("iter/task")
int own_masks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct mask_record record = {};

	if (!task)
		return 0;
	record.own_mask = own_mask(task);
	if (only_own && !record.own_mask)
		return 0;
	record.start_boottime_ns = task->start_boottime;
	record.tid = task->pid;
	record.tgid = task->tgid;
	write_record(ctx->meta->seq, &record);
	return 0;
}
