// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Which addresses a process can use memory at. /proc/PID/maps tells it to who may trace the process only. */
#include "include/kernel.bpf.h"
#include "mappings.h"

/* include/linux/mm.h */
#define VM_READ 0x1
#define VM_WRITE 0x2
#define VM_EXEC 0x4
#define VM_PFNMAP 0x400
#define VM_IO 0x4000

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Not inlined, so that the record's layout stays in the object's BTF. */
static __noinline void write_record(struct seq_file *out, const struct mapping_record *record)
{
	bpf_seq_write(out, record, sizeof(*record));
}

SEC("iter/task_vma")
int mappings(struct bpf_iter__task_vma *ctx)
{
	struct vm_area_struct *vma = ctx->vma;
	struct mapping_record record = {};

	if (!vma)
		return 0;
	/* Reserved, as heaps are long before they are used; or a device's. */
	if (!(vma->vm_flags & (VM_READ | VM_WRITE | VM_EXEC)) || vma->vm_flags & (VM_PFNMAP | VM_IO))
		return 0;
	record.start = vma->vm_start;
	record.end = vma->vm_end;
	write_record(ctx->meta->seq, &record);
	return 0;
}
