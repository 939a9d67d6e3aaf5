/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What net.bpf.c and src/agent/probes/net.ts share; a test holds the decoder against this layout's BTF. */
#ifndef SCULPTOR_NET_H
#define SCULPTOR_NET_H

#include <linux/types.h>

/* TCP of one cgroup since its first socket: payload, each byte once however often it was sent; segments. */
struct net_totals {
	__u64 received_bytes;
	__u64 sent_bytes;
	__u64 received_packets;
	__u64 sent_packets;
	__u64 retransmits;
	__u64 rtt_count;
	__u64 rtt_sum_ns;
	__u64 rtt_slots[LATENCY_SLOTS];
};

/* What one CPU has counted since the probe was loaded. */
struct net_stats {
	/* A socket that no memory could be had for, so that it is not followed. */
	__u64 lost_socket_storage;
	/* A cgroup that could not be counted for: the map is full, or there was no memory for another entry. */
	__u64 lost_instance_full;
	__u64 lost_instance_memory;
	/* Connections that ended and whose owner was not known, had gone, or could not be counted for. */
	__u64 lost_owner;
};

#endif
