// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * How long block I/O waits in its queue, and how long its device takes, per cgroup, device and direction. A request is
 * charged to who first handed it in (include/block.bpf.h), when it ends.
 *
 * insert (to the I/O scheduler) → issue (to the driver) is queue time, issue → complete device time. Where there is no
 * scheduler nothing is inserted, and queue time is 0. What a driver gives back (requeue) waits in the queue again, up
 * to its last issue. One that is merged into another ends with it, as one operation.
 */
#include "include/block.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct under_way {
	/* Of the request, as the kernel has it: a later one where its tag is used again. */
	__u64 start_ns;
	__u64 queued_ns;
	/* 0: not issued, or given back since. */
	__u64 issued_ns;
	__u64 cgroup_id;
	__u32 device;
	__u16 direction;
	__u16 requeued;
};

/*
 * By the address of the request, which is one of the tags that a device was given when it was made: what is never ended
 * is found, and counted, when its tag is used again. In memory from the start, since it is written to with locks held.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u64);
	__type(value, struct under_way);
} requests SEC(".maps");

/*
 * Not per CPU, which would be 2.6 KB for each of a large host's: requests end so seldom that two hardly ever meet.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, struct block_key);
	__type(value, struct block_totals);
} block SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct block_stats);
} stats SEC(".maps");

static const struct block_totals no_totals;

#define count(field)                                                                                                   \
	do {                                                                                                           \
		__u32 zero = 0;                                                                                        \
		struct block_stats *here = bpf_map_lookup_elem(&stats, &zero);                                         \
                                                                                                                       \
		if (here)                                                                                              \
			here->field += 1;                                                                              \
	} while (0)

/*
 * What is known of a request. What the last one with its tag left is dropped: it never ended, as far as was seen; or a
 * driver gave it back to device-mapper, which makes another one of it then. One that others are merged into has the
 * start of the first of them. (Where a queue keeps no account of I/O all start at 0.)
 */
static __always_inline struct under_way *entry_of(struct request *rq)
{
	__u64 key = (__u64)rq;
	struct under_way *entry = bpf_map_lookup_elem(&requests, &key);

	if (!entry || rq->start_time_ns <= entry->start_ns)
		return entry;
	if (!entry->requeued || entry->issued_ns)
		count(lost_unfinished);
	bpf_map_delete_elem(&requests, &key);
	return NULL;
}

/* `issued_ns` 0: into a queue. False: no room. */
static __always_inline bool begin(struct request *rq, int direction, __u64 now, __u64 issued_ns)
{
	__u64 key = (__u64)rq;
	struct under_way entry = {
		.start_ns = rq->start_time_ns,
		.queued_ns = now,
		.issued_ns = issued_ns,
		.cgroup_id = instance_of(rq),
		.device = device_of(rq),
		.direction = direction,
	};

	return bpf_map_update_elem(&requests, &key, &entry, BPF_ANY) == 0;
}

SEC("tp_btf/block_rq_insert")
int BPF_PROG(block_rq_insert, struct request *rq)
{
	struct under_way *entry = entry_of(rq);
	int direction = direction_of(rq);

	if (direction < 0 || (entry && entry->requeued))
		return 0;
	if (entry)
		count(lost_unfinished);
	/* One for which there is no room is tried again, and counted, when it is issued. */
	begin(rq, direction, bpf_ktime_get_ns(), 0);
	return 0;
}

SEC("tp_btf/block_rq_issue")
int BPF_PROG(block_rq_issue, struct request *rq)
{
	struct under_way *entry = entry_of(rq);
	__u64 now = bpf_ktime_get_ns();
	int direction = direction_of(rq);

	if (direction < 0)
		return 0;
	if (entry && !entry->issued_ns) {
		entry->issued_ns = now;
		return 0;
	}
	if (entry)
		count(lost_unfinished);
	if (!begin(rq, direction, now, now))
		count(lost_full);
	return 0;
}

SEC("tp_btf/block_rq_requeue")
int BPF_PROG(block_rq_requeue, struct request *rq)
{
	struct under_way *entry = entry_of(rq);
	__u64 key = (__u64)rq;

	/* With no scheduler, and a driver that is busy at once. Who asked for one that it had already is not known
	 * here. */
	if (!entry && rq->state == MQ_RQ_IDLE && direction_of(rq) >= 0 &&
	    begin(rq, direction_of(rq), bpf_ktime_get_ns(), 0))
		entry = bpf_map_lookup_elem(&requests, &key);
	if (!entry)
		return 0;
	count(requeued);
	entry->issued_ns = 0;
	entry->requeued = 1;
	return 0;
}

/* Into the one before it, which goes on. */
SEC("tp_btf/block_rq_merge")
int BPF_PROG(block_rq_merge, struct request *rq)
{
	__u64 key = (__u64)rq;

	count(merged);
	bpf_map_delete_elem(&requests, &key);
	return 0;
}

static __always_inline struct block_totals *totals_of(const struct under_way *entry)
{
	struct block_key key = {.cgroup_id = entry->cgroup_id, .device = entry->device, .direction = entry->direction};
	struct block_totals *totals = bpf_map_lookup_elem(&block, &key);
	long error;

	if (totals)
		return totals;
	error = bpf_map_update_elem(&block, &key, &no_totals, BPF_NOEXIST);
	totals = bpf_map_lookup_elem(&block, &key);
	if (totals)
		return totals;
	if (error == -E2BIG)
		count(lost_totals_full);
	else
		count(lost_totals_memory);
	return NULL;
}

static __always_inline void end(struct block_totals *totals, const struct under_way *entry)
{
	__u64 now = bpf_ktime_get_ns();
	/* Given up before a driver had it. */
	__u64 issued_ns = entry->issued_ns ? entry->issued_ns : now;
	__u64 queue_ns = issued_ns - entry->queued_ns, device_ns = now - issued_ns;

	__sync_fetch_and_add(&totals->operations, 1);
	__sync_fetch_and_add(&totals->queue_sum_ns, queue_ns);
	__sync_fetch_and_add(&totals->device_sum_ns, device_ns);
	__sync_fetch_and_add(&totals->queue_slots[latency_slot(queue_ns)], 1);
	__sync_fetch_and_add(&totals->device_slots[latency_slot(device_ns)], 1);
}

/* `bytes` of what is left of it have been done. */
SEC("tp_btf/block_rq_complete")
int BPF_PROG(block_rq_complete, struct request *rq, __u8 error, unsigned int bytes)
{
	__u64 key = (__u64)rq;
	struct under_way *entry = entry_of(rq);
	struct block_totals *totals;

	if (!entry) {
		/* One with flushes before or after it ends once more, with nothing left to do. */
		if (bytes && direction_of(rq) >= 0)
			count(lost_unseen);
		return 0;
	}
	if (error)
		count(failed);
	totals = totals_of(entry);
	if (totals)
		__sync_fetch_and_add(&totals->bytes, bytes);
	if (bytes < rq->__data_len) {
		/* SCSI ends nothing of a request before it fails it. */
		if (bytes)
			count(in_parts);
		return 0;
	}
	if (totals)
		end(totals, entry);
	bpf_map_delete_elem(&requests, &key);
	return 0;
}
