/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The few structures of the block layer that are read: what a request does, to which disk, and for whom. */
#ifndef SCULPTOR_BLOCK_BPF_H
#define SCULPTOR_BLOCK_BPF_H

#include "core_fixes.bpf.h"
#include "instance.bpf.h"
#include "latency.bpf.h"
#include "../block.h"

#define PF_KTHREAD 0x200000

/* linux/blk_types.h; the same since 4.10, but for what core_fixes knows. */
#define REQ_OP_MASK	    0xff
#define REQ_OP_READ	    0
#define REQ_OP_WRITE	    1
#define REQ_OP_FLUSH	    2
#define REQ_OP_DISCARD	    3
#define REQ_OP_SECURE_ERASE 5
#define REQ_OP_WRITE_ZEROES 9

/* linux/blk-mq.h */
enum mq_rq_state {
	MQ_RQ_IDLE,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct gendisk {
	int major;
	int first_minor;
};

struct request_queue {
	struct gendisk *disk;
};

struct blkcg {
	struct cgroup_subsys_state css;
};

struct blkcg_gq {
	struct blkcg *blkcg;
};

struct bio {
	struct blkcg_gq *bi_blkg;
};

struct request {
	struct request_queue *q;
	unsigned int cmd_flags;
	unsigned int __data_len;
	struct bio *bio;
	__u64 start_time_ns;
	enum mq_rq_state state;
};

struct cgroup_root;

struct cgroup___rooted {
	struct cgroup_root *root;
};

#pragma clang attribute pop

/* BLOCK_…; -1: it moves no data of anybody's (a command of a driver's own, the management of zones). */
static __always_inline int direction_of(struct request *rq)
{
	__u32 op = rq->cmd_flags & REQ_OP_MASK;

	switch (op) {
	case REQ_OP_READ:
		return BLOCK_READ;
	case REQ_OP_WRITE:
	case REQ_OP_WRITE_ZEROES:
		return BLOCK_WRITE;
	case REQ_OP_FLUSH:
		return BLOCK_FLUSH;
	case REQ_OP_DISCARD:
	case REQ_OP_SECURE_ERASE:
		return BLOCK_DISCARD;
	}
	return op == zone_append() ? BLOCK_WRITE : -1;
}

static __always_inline __u32 device_of(struct request *rq)
{
	struct gendisk *disk = rq->q->disk;

	return (__u32)disk->major << 20 | disk->first_minor;
}

/*
 * Whose pages are written, as the kernel knows it of cgroup v2 (of the nearest cgroup that has the io controller); 0:
 * it does not, or that controller is in a hierarchy of v1.
 */
static __always_inline __u64 owner_of(struct bio *bio, struct task_struct *task)
{
	struct cgroup *owner;

	if (!bpf_core_field_exists(bio->bi_blkg))
		return 0;
	owner = bio->bi_blkg->blkcg->css.cgroup;
	if (((struct cgroup___rooted *)owner)->root != ((struct cgroup___rooted *)task->cgroups->dfl_cgrp)->root)
		return 0;
	return owner->kn->id;
}

/*
 * Whom a request is charged to: the task that hands it in, which waits for it or has asked for it. A kernel thread does
 * it for others: writeback, and kswapd, for the owner of the pages where the kernel knows one; else it is the root's,
 * as are flushes, which the kernel makes of those of many tasks.
 */
static __always_inline __u64 instance_of(struct request *rq)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (!cgroup_v1 && task->flags & PF_KTHREAD) {
		__u64 owner = owner_of(rq->bio, task);

		if (owner > ROOT_CGROUP_ID)
			return owner;
	}
	return cgroup_of(task);
}

#endif
