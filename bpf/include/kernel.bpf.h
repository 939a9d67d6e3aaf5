/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The few kernel structures that are read; libbpf relocates each field against the running kernel's BTF (CO-RE). */
#ifndef SCULPTOR_KERNEL_BPF_H
#define SCULPTOR_KERNEL_BPF_H

#include <linux/errno.h>
#include <linux/types.h>
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#define TASK_COMM_LEN 16

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct task_struct;

struct rq {
	__u64 clock;
	__u64 clock_pelt;
	unsigned long lost_idle_time;
	struct task_struct *curr;
};

struct cfs_rq {
	struct rq *rq;
	int throttle_count;
	__u64 throttled_clock_self;
	__u64 throttled_clock_self_time;
	__u64 throttled_clock_pelt;
	__u64 throttled_clock_pelt_time;
};

struct sched_entity {
	unsigned char sched_delayed;
	__u64 sum_exec_runtime;
	struct cfs_rq *cfs_rq;
};

/* Empty without CONFIG_SCHED_INFO. */
struct sched_info {
	__u64 run_delay;
	__u64 last_arrival;
	__u64 last_queued;
};

struct task_group {
	struct cgroup_subsys_state css;
	struct cfs_rq **cfs_rq;
};

struct cpumask;

struct affinity_context {
	unsigned int flags;
};

/* x86-64; on arm64 the number has a name of its own. */
struct pt_regs {
	unsigned long orig_ax;
	unsigned long si;
};

struct user_pt_regs {
	__u64 regs[31];
};

struct pt_regs___arm64 {
	struct user_pt_regs user_regs;
	int syscallno;
};

struct thread_info {
	__u32 cpu;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int __state;
	unsigned int flags;
	int exit_state;
	unsigned int in_iowait : 1;
	__u64 utime;
	__u64 stime;
	unsigned long nvcsw;
	unsigned long nivcsw;
	int on_cpu;
	int on_rq;
	int pid;
	int tgid;
	char comm[TASK_COMM_LEN];
	__u64 start_boottime;
	struct sched_entity se;
	struct sched_info sched_info;
	struct task_group *sched_task_group;
	struct css_set *cgroups;
	struct cpumask *user_cpus_ptr;
	bool throttled;
	int pagefault_disabled;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct vm_area_struct {
	unsigned long vm_start;
	unsigned long vm_end;
	unsigned long vm_flags;
};

struct bpf_iter__task_vma {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	struct vm_area_struct *vma;
};

struct bpf_map;

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
};

#pragma clang attribute pop

#endif
