/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * cgroup/setsockopt: what an application asks of its connection, where only the leg that the agent makes beyond can do it. Before
 * connect() it is kept with the socket and goes to the agent with the destination; after it, by `asked_since`.
 * Nothing is changed: with optlen 0 the kernel goes by what the application gave, whatever its size.
 */
#ifndef AMBIT_OPTIONS_H
#define AMBIT_OPTIONS_H

#include "maps.h"

/* As the kernel limits them: what it will refuse must not be carried on. */
#define MAX_KEEP_SECONDS 32767
#define MAX_KEEP_PROBES 127
#define ECN_BITS 3

static __always_inline bool is_carried(__u32 level, __u32 name)
{
	switch (level) {
	case SOL_SOCKET:
		return name == SO_KEEPALIVE;
	case IPPROTO_TCP:
		return name == TCP_KEEPIDLE || name == TCP_KEEPINTVL || name == TCP_KEEPCNT ||
		       name == TCP_USER_TIMEOUT;
	case IPPROTO_IP:
		return name == IP_TOS;
	case IPPROTO_IPV6:
		return name == IPV6_TCLASS;
	default:
		return false;
	}
}

static __always_inline void note(struct ambit_asked *asked, __u32 level, __u32 name, __s32 value)
{
	if (level == SOL_SOCKET) {
		asked->keep_alive = value != 0;
	} else if (level == IPPROTO_IP || level == IPPROTO_IPV6) {
		if (value >= 0 && value <= 255)
			asked->traffic_class = (__u32)value & ~ECN_BITS;
	} else if (name == TCP_USER_TIMEOUT) {
		if (value >= 0)
			asked->user_timeout_ms = (__u32)value;
	} else if (name == TCP_KEEPCNT) {
		if (value >= 1 && value <= MAX_KEEP_PROBES)
			asked->keep_probes = (__u32)value;
	} else if (value >= 1 && value <= MAX_KEEP_SECONDS) {
		if (name == TCP_KEEPIDLE)
			asked->keep_idle_s = (__u32)value;
		else
			asked->keep_interval_s = (__u32)value;
	}
}

SEC("cgroup/setsockopt")
int ambit_setsockopt(struct bpf_sockopt *ctx)
{
	__u32 level = (__u32)ctx->level, name = (__u32)ctx->optname, length = (__u32)ctx->optlen;
	struct bpf_sock *sk = ctx->sk;
	struct ambit_socket *stored;
	__u8 *value = ctx->optval;
	__u64 netns_cookie;
	__s32 number;

	ctx->optlen = 0;
	if (!is_carried(level, name) || !sk || sk->protocol != IPPROTO_TCP)
		return ALLOW;
	if (value + sizeof(number) > (__u8 *)ctx->optval_end)
		return ALLOW;
	/* IP_TOS may come as a single byte. */
	number = length >= sizeof(number) ? *(__s32 *)value : *value;
	netns_cookie = bpf_get_netns_cookie(ctx);
	if (!bpf_map_lookup_elem(&pods, &netns_cookie))
		return ALLOW;
	stored = bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!stored || stored->flags & AMBIT_SOCKET_EXEMPT)
		return ALLOW;
	note(&stored->asked, level, name, number);
	if (stored->flags & AMBIT_SOCKET_CAPTURED && stored->cookie)
		bpf_map_update_elem(&asked_since, &stored->cookie, &stored->asked, BPF_ANY);
	return ALLOW;
}

#endif /* AMBIT_OPTIONS_H */
