/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Which instance a task belongs to. */
#ifndef SCULPTOR_INSTANCE_BPF_H
#define SCULPTOR_INSTANCE_BPF_H

#include "kernel.bpf.h"

/* On cgroup v1 the `cpu` hierarchy names the instance, on v2 the one there is. */
const volatile bool cgroup_v1 = false;

/* Id of the root of every hierarchy: kernfs numbers its nodes from 1. */
#define ROOT_CGROUP_ID 1ULL

static __always_inline __u64 cgroup_of(struct task_struct *task)
{
	__u64 id;

	if (!cgroup_v1)
		return task->cgroups->dfl_cgrp->kn->id;
	/* A task of the root may be scheduled in an autogroup, which has no cgroup: its id reads as 0. */
	id = task->sched_task_group->css.cgroup->kn->id;
	return id ? id : ROOT_CGROUP_ID;
}

/* The same of a task that the verifier knows nothing of. */
static __always_inline __u64 cgroup_of_other(struct task_struct *task)
{
	__u64 id;

	if (!cgroup_v1)
		return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	id = BPF_CORE_READ(task, sched_task_group, css.cgroup, kn, id);
	return id ? id : ROOT_CGROUP_ID;
}

#endif
