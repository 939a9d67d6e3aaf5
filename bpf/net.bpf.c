// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * What TCP carried for each cgroup, how much it sent again, and its round-trip times. The kernel counts all of it in
 * each socket anyway: what a socket has counted since the last look is charged to its owner, once a second and when it
 * closes. So a packet costs nothing, and a connection two short looks and one a second.
 *
 * A socket belongs to the cgroup of the task that connects or listens; a connection that is accepted inherits from the
 * socket that listened, in the kernel's own copying of it. Who holds a socket later on takes it over.
 */
#include "include/sockets.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* A connection, or a socket that listens, begins: its counters are at zero. In the context of the task that asked for
 * it. */
static __always_inline void begin(struct sock *sk)
{
	struct socket_state *state = state_of(sk);

	if (!state)
		return;
	*state = (struct socket_state){.owner = cgroup_of(bpf_get_current_task_btf())};
	begin_totals(state->owner);
}

static __always_inline void end(struct sock *sk)
{
	struct socket_state *state = bpf_sk_storage_get(&sockets, sk, 0, 0);
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	if (tcp && !(state && charge(tcp, state)) && tcp->segs_in)
		count(lost_owner);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(inet_sock_set_state, struct sock *sk, int before, int after)
{
	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (after == TCP_SYN_SENT || after == TCP_LISTEN)
		begin(sk);
	else if (after == TCP_CLOSE)
		end(sk);
	return 0;
}

/* Each once, also those that no file is of. A kernel may refuse iterators over maps: own_sockets does it then. */
SEC("iter/bpf_sk_storage_map")
int charge_sockets(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	struct socket_state *state = sk ? bpf_sk_storage_get(&sockets, sk, 0, 0) : NULL;
	struct tcp_sock *tcp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;

	if (state && tcp)
		charge(tcp, state);
	return 0;
}

/* The TCP socket that a file is, or null. */
static __always_inline struct sock *tcp_of(struct file *file)
{
	struct socket *socket = file ? bpf_sock_from_file(file) : NULL;
	struct sock *sk = socket ? socket->sk : NULL;

	return sk && sk->sk_protocol == IPPROTO_TCP && is_inet(sk) ? sk : NULL;
}

/* Run once, when the hooks are there: what the sockets of that time have counted is not charged to anybody. */
SEC("iter/task_file")
int baseline(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct sock *sk = task ? tcp_of(ctx->file) : NULL;
	struct socket_state *state;
	struct tcp_sock *tcp;

	if (!sk)
		return 0;
	tcp = bpf_skc_to_tcp_sock(sk);
	state = state_of(sk);
	if (!tcp || !state)
		return 0;
	advance(&state->received_bytes, payload_received(tcp));
	advance(&state->sent_bytes, payload_sent(tcp));
	advance32(&state->received_packets, tcp->segs_in);
	advance32(&state->sent_packets, tcp->segs_out);
	advance32(&state->retransmits, tcp->total_retrans);
	advance32(&state->delivered, tcp->delivered);
	state->owner = cgroup_of(task);
	begin_totals(state->owner);
	return 0;
}

/*
 * Run now and then: a socket is its holder's, the one with the highest tid where there are several (so not systemd's,
 * which keeps what it listens on for its services). What was counted until then stays with who had it.
 */
SEC("iter/task_file")
int own_sockets(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct sock *sk = task ? tcp_of(ctx->file) : NULL;
	struct socket_state *state;
	struct tcp_sock *tcp;
	__u64 owner;

	if (!sk)
		return 0;
	tcp = bpf_skc_to_tcp_sock(sk);
	state = state_of(sk);
	owner = cgroup_of(task);
	begin_totals(owner);
	if (!tcp || !state)
		return 0;
	charge(tcp, state);
	state->owner = owner;
	return 0;
}
