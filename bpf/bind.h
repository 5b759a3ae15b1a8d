/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * cgroup/bind4 and bind6, for two things. Connections the agent accepted for the application occupy the application's
 * port, so a restarted application could not bind it: SO_REUSEADDR lifts that; two listeners on one port still exclude
 * each other at listen(). Kernels before 6.1 refuse the option from BPF: counted, and the application is on its own.
 * And the agent's own ports stay the agent's while it restarts: a pod that took one could not be enrolled again.
 */
#ifndef AMBIT_BIND_H
#define AMBIT_BIND_H

#include "maps.h"

static __always_inline bool is_mesh_port(__u16 port)
{
	return port == bpf_htons(AMBIT_PORT_OUTBOUND) || port == bpf_htons(AMBIT_PORT_INBOUND) ||
	       port == bpf_htons(AMBIT_PORT_HBONE);
}

/* The agent flags its listeners before it binds them. */
static __always_inline bool is_agents(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct ambit_socket *stored;

	if (!sk)
		return false;
	stored = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	return stored && stored->flags & AMBIT_SOCKET_EXEMPT;
}

/* A port of the application's own choice is carried on where its connection only passes through. */
static __always_inline void note_port(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct ambit_socket *stored;

	if (!sk || !CTX_READ(ctx, user_port))
		return;
	stored = bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (stored)
		stored->flags |= AMBIT_SOCKET_OWN_PORT;
}

static __always_inline int on_bind(struct bpf_sock_addr *ctx)
{
	__u64 netns_cookie = bpf_get_netns_cookie(ctx);
	int one = 1;

	/* UDP is left alone: there the option would let a stranger share the port. */
	if (CTX_READ(ctx, protocol) != IPPROTO_TCP || !bpf_map_lookup_elem(&pods, &netns_cookie))
		return ALLOW;
	if (is_mesh_port((__u16)CTX_READ(ctx, user_port)) && !is_agents(ctx)) {
		/* As while the agent listens. */
		if (has_set_retval)
			set_retval(-EADDRINUSE);
		count(AMBIT_BIND_DENY_MESH_PORT);
		return DENY;
	}
	note_port(ctx);
	if (bpf_setsockopt(ctx, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)))
		count(AMBIT_BIND_REUSE_FAILED);
	else
		count(AMBIT_BIND_REUSE_SET);
	return ALLOW;
}

SEC("cgroup/bind4")
int ambit_bind4(struct bpf_sock_addr *ctx)
{
	return on_bind(ctx);
}

SEC("cgroup/bind6")
int ambit_bind6(struct bpf_sock_addr *ctx)
{
	return on_bind(ctx);
}

#endif /* AMBIT_BIND_H */
