/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What is kept of a TCP socket and of its owner, and how the one is charged to the other. */
#ifndef SCULPTOR_SOCKETS_BPF_H
#define SCULPTOR_SOCKETS_BPF_H

#include "instance.bpf.h"
#include "latency.bpf.h"
#include "tcp.bpf.h"
#include "../net.h"

/* Of one socket: whose it is (0: not known yet), and how far of its counters has been charged. */
struct socket_state {
	__u64 owner;
	__u64 received_bytes;
	__u64 sent_bytes;
	__u32 received_packets;
	__u32 sent_packets;
	__u32 retransmits;
	__u32 delivered;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct socket_state);
} sockets SEC(".maps");

/* Not for each CPU: it is written once a second for a socket, and 1.3 KB. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct net_totals);
} networks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct net_stats);
} stats SEC(".maps");

static const struct net_totals no_totals;

#define count(field)                                                                                                   \
	do {                                                                                                           \
		__u32 zero = 0;                                                                                        \
		struct net_stats *here = bpf_map_lookup_elem(&stats, &zero);                                           \
                                                                                                                       \
		if (here)                                                                                              \
			here->field += 1;                                                                              \
	} while (0)

/*
 * Only while a task of the cgroup holds the socket: what charges later finds the entry, or it was forgotten with its
 * cgroup.
 */
static __always_inline void begin_totals(__u64 owner)
{
	long error;

	if (bpf_map_lookup_elem(&networks, &owner))
		return;
	error = bpf_map_update_elem(&networks, &owner, &no_totals, BPF_NOEXIST);
	if (error == -E2BIG)
		count(lost_instance_full);
	else if (error && error != -EEXIST)
		count(lost_instance_memory);
}

/* What a counter has grown since it was charged. Two that charge at once: one of them takes it. */
static __always_inline __u64 advance(__u64 *charged, __u64 counter)
{
	__u64 before = *(volatile __u64 *)charged;

	if (counter <= before || __sync_val_compare_and_swap(charged, before, counter) != before)
		return 0;
	return counter - before;
}

/* The same of 32 bits, which wrap around: so many segments are not sent within a second. */
static __always_inline __u64 advance32(__u32 *charged, __u32 counter)
{
	__u32 before = *(volatile __u32 *)charged;

	if ((__s32)(counter - before) <= 0 || __sync_val_compare_and_swap(charged, before, counter) != before)
		return 0;
	return counter - before;
}

static __always_inline void charge_rtt(struct tcp_sock *tcp, struct net_totals *totals)
{
	__u64 rtt_ns = smoothed_rtt_ns(tcp);

	__sync_fetch_and_add(&totals->rtt_count, 1);
	__sync_fetch_and_add(&totals->rtt_sum_ns, rtt_ns);
	__sync_fetch_and_add(&totals->rtt_slots[latency_slot(rtt_ns)], 1);
}

/* False: there is nobody to charge, since the owner is not known, has gone, or could not be counted for. */
static __always_inline bool charge(struct tcp_sock *tcp, struct socket_state *state)
{
	struct net_totals *totals;

	/* Nothing changes without a segment, and of thousands of connections most are idle. */
	if (tcp->segs_in == state->received_packets && tcp->segs_out == state->sent_packets)
		return true;
	totals = bpf_map_lookup_elem(&networks, &state->owner);
	if (!totals)
		return false;
	__sync_fetch_and_add(&totals->received_bytes, advance(&state->received_bytes, payload_received(tcp)));
	__sync_fetch_and_add(&totals->sent_bytes, advance(&state->sent_bytes, payload_sent(tcp)));
	__sync_fetch_and_add(&totals->received_packets, advance32(&state->received_packets, tcp->segs_in));
	__sync_fetch_and_add(&totals->sent_packets, advance32(&state->sent_packets, tcp->segs_out));
	__sync_fetch_and_add(&totals->retransmits, advance32(&state->retransmits, tcp->total_retrans));
	/* Something was acknowledged, so that the round-trip time is a new one. */
	if (advance32(&state->delivered, tcp->delivered) && tcp->srtt_us)
		charge_rtt(tcp, totals);
	return true;
}

static __always_inline struct socket_state *state_of(struct sock *sk)
{
	struct socket_state *state = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!state)
		count(lost_socket_storage);
	return state;
}

#endif
