// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * What UDP carried for each cgroup. Its sockets count nothing, so each call that sends or receives is looked at, in the
 * caller's own context: it is charged to the caller, whoever opened the socket. These hooks came with Linux 6.3
 * (6e6eda44b939, "sock: add tracepoint for send recv length"). They run at the calls on all sockets, TCP's and those of
 * unix too, which is why what most of them are not is asked first.
 */
#include "include/inet.bpf.h"
#include "include/instance.bpf.h"
#include "udp.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* include/linux/socket.h; part of the system call interface. */
#define MSG_PEEK     0x2
#define MSG_ERRQUEUE 0x2000

/* For each CPU: it is written at each datagram, by all CPUs of an instance at once. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct udp_totals);
} datagrams SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct udp_stats);
} stats SEC(".maps");

static const struct udp_totals no_totals;

#define count(field)                                                                                                   \
	do {                                                                                                           \
		__u32 zero = 0;                                                                                        \
		struct udp_stats *here = bpf_map_lookup_elem(&stats, &zero);                                           \
                                                                                                                       \
		if (here)                                                                                              \
			here->field += 1;                                                                              \
	} while (0)

/* A raw socket of this protocol gets copies of what others get, headers and all. */
static __always_inline bool is_udp(struct sock *sk)
{
	return sk->sk_protocol == IPPROTO_UDP && sk->sk_type == SOCK_DGRAM && is_inet(sk);
}

/* Of the task that calls; a kernel thread's are the root's. */
static __always_inline struct udp_totals *own_totals(void)
{
	__u64 key = cgroup_of(bpf_get_current_task_btf());
	struct udp_totals *totals = bpf_map_lookup_elem(&datagrams, &key);
	long error;

	if (totals)
		return totals;
	error = bpf_map_update_elem(&datagrams, &key, &no_totals, BPF_NOEXIST);
	totals = bpf_map_lookup_elem(&datagrams, &key);
	if (totals)
		return totals;
	if (error == -E2BIG)
		count(lost_instance_full);
	else
		count(lost_instance_memory);
	return NULL;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(sock_send_length, struct sock *sk, int length, int flags)
{
	struct udp_totals *totals;

	if (!is_udp(sk) || length < 0)
		return 0;
	totals = own_totals();
	if (!totals)
		return 0;
	totals->sent_bytes += length;
	totals->sent_packets += 1;
	return 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(sock_recv_length, struct sock *sk, int length, int flags)
{
	struct udp_totals *totals;

	if (!is_udp(sk) || length < 0)
		return 0;
	/* What is looked at is received later; what comes from the queue of errors was sent. */
	if (flags & (MSG_PEEK | MSG_ERRQUEUE))
		return 0;
	/* An empty datagram is one, the end of a socket that was shut down is none. */
	if (length == 0 && sk->sk_shutdown & RCV_SHUTDOWN)
		return 0;
	totals = own_totals();
	if (!totals)
		return 0;
	totals->received_bytes += length;
	totals->received_packets += 1;
	return 0;
}
