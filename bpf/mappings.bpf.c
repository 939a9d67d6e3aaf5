// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Which addresses a process can use memory at. /proc/PID/maps tells it to who may trace the process only. */
#include "include/kernel.bpf.h"
#include "mappings.h"

/* include/linux/mm.h */
#define VM_READ	  0x1
#define VM_WRITE  0x2
#define VM_EXEC	  0x4
#define VM_PFNMAP 0x400
#define VM_IO	  0x4000

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* How far a walk over one process has come. The kernel shows some mappings again, and without end, once it had to go on
 * in another read. */
struct walk {
	__u64 session_id;
	__u64 reached;
};

#define WALKS 64
static struct walk walks[WALKS];

/* Not inlined, so that the record's layout stays in the object's BTF. */
static __noinline long write_record(struct seq_file *out, const struct mapping_record *record)
{
	return bpf_seq_write(out, record, sizeof(*record));
}

SEC("iter/task_vma")
int mappings(struct bpf_iter__task_vma *ctx)
{
	struct vm_area_struct *vma = ctx->vma;
	struct mapping_record record = {};
	struct walk *walk;

	if (!vma)
		return 0;
	/* Reserved, as heaps are long before they are used; or a device's. */
	if (!(vma->vm_flags & (VM_READ | VM_WRITE | VM_EXEC)) || vma->vm_flags & (VM_PFNMAP | VM_IO))
		return 0;
	walk = &walks[ctx->meta->session_id % WALKS];
	if (walk->session_id != ctx->meta->session_id) {
		walk->session_id = ctx->meta->session_id;
		walk->reached = 0;
	}
	record.start = vma->vm_start;
	record.end = vma->vm_end;
	if (record.end <= walk->reached)
		return 0;
	/* It was joined to one that was told while the lock was not held. */
	if (record.start < walk->reached)
		record.start = walk->reached;
	/* What finds no room is shown again. */
	if (write_record(ctx->meta->seq, &record) == 0)
		walk->reached = record.end;
	return 0;
}
