/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What TCP counts in each of its sockets. */
#ifndef SCULPTOR_TCP_BPF_H
#define SCULPTOR_TCP_BPF_H

#include "inet.bpf.h"

/* include/net/tcp_states.h; part of the system call interface. */
#define TCP_SYN_SENT 2
#define TCP_CLOSE    7
#define TCP_LISTEN   10

/* A bit of the socket's flags; include/net/sock.h, the same since 2.6.12. */
#define SOCK_DONE 1

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct inet_sock {
	struct sock sk;
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u64 bytes_received;
	__u64 bytes_sent;
	__u64 bytes_retrans;
	__u32 segs_in;
	__u32 segs_out;
	__u32 total_retrans;
	__u32 delivered;
	__u32 srtt_us;
};

struct socket {
	struct sock *sk;
};

struct file;
struct bpf_map;

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
};

#pragma clang attribute pop

/* The FIN takes a place in the sequence, and is counted with the bytes; tcp_fin() sets the flag. */
static __always_inline __u64 payload_received(struct tcp_sock *tcp)
{
	__u64 bytes = tcp->bytes_received;

	return bytes && (tcp->inet_conn.icsk_inet.sk.__sk_common.skc_flags & (1UL << SOCK_DONE)) ? bytes - 1 : bytes;
}

/* What is sent again is counted as retransmitted before it is counted as sent: in this order it is never too much. */
static __always_inline __u64 payload_sent(struct tcp_sock *tcp)
{
	__u64 sent = *(volatile __u64 *)&tcp->bytes_sent;
	__u64 again = *(volatile __u64 *)&tcp->bytes_retrans;

	return sent > again ? sent - again : 0;
}

/* The kernel keeps eighths of a microsecond. */
static __always_inline __u64 smoothed_rtt_ns(struct tcp_sock *tcp)
{
	return tcp->srtt_us * 125ULL;
}

#endif
