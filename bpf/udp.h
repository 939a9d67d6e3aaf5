/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What udp.bpf.c and src/agent/probes/udp.ts share; a test holds the decoder against this layout's BTF. */
#ifndef SCULPTOR_UDP_H
#define SCULPTOR_UDP_H

#include <linux/types.h>

/* UDP of one cgroup on one CPU since its first datagram: payload, and calls that sent or received some. */
struct udp_totals {
	__u64 received_bytes;
	__u64 sent_bytes;
	__u64 received_packets;
	__u64 sent_packets;
};

/* What one CPU has counted since the probe was loaded. */
struct udp_stats {
	/* Calls that could not be charged to their cgroup: the map is full, or there was no memory for another entry.
	 */
	__u64 lost_instance_full;
	__u64 lost_instance_memory;
};

#endif
