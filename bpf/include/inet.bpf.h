/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What a socket of IPv4 or IPv6 is. */
#ifndef SCULPTOR_INET_BPF_H
#define SCULPTOR_INET_BPF_H

#include "kernel.bpf.h"

#define AF_INET	    2
#define AF_INET6    10
#define SOCK_DGRAM  2
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17

/* A bit of sk_shutdown; include/net/sock.h. */
#define RCV_SHUTDOWN 1

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sock_common {
	unsigned short skc_family;
	unsigned long skc_flags;
};

struct sock {
	struct sock_common __sk_common;
	__u8 sk_shutdown;
	__u16 sk_type;
	__u16 sk_protocol;
};

#pragma clang attribute pop

/* Other families have protocols of their own numbering. */
static __always_inline bool is_inet(struct sock *sk)
{
	return sk->__sk_common.skc_family == AF_INET || sk->__sk_common.skc_family == AF_INET6;
}

#endif
