/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* getpeername and getsockname of captured sockets: the application sees what it would see without a mesh. */
#ifndef AMBIT_NAMES_H
#define AMBIT_NAMES_H

#include "maps.h"

static __always_inline struct ambit_socket *captured_socket(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct ambit_socket *stored;

	if (!sk)
		return NULL;
	stored = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	return stored && stored->flags & AMBIT_SOCKET_CAPTURED ? stored : NULL;
}

static __always_inline struct ambit_pod *current_pod(struct bpf_sock_addr *ctx)
{
	__u64 netns_cookie = bpf_get_netns_cookie(ctx);

	return bpf_map_lookup_elem(&pods, &netns_cookie);
}

SEC("cgroup/getpeername4")
int ambit_getpeername4(struct bpf_sock_addr *ctx)
{
	struct ambit_socket *stored = captured_socket(ctx);

	if (stored) {
		CTX_WRITE(ctx, user_ip4, stored->address.word[3]);
		CTX_WRITE(ctx, user_port, stored->port);
	}
	return ALLOW;
}

SEC("cgroup/getpeername6")
int ambit_getpeername6(struct bpf_sock_addr *ctx)
{
	struct ambit_socket *stored = captured_socket(ctx);

	if (stored) {
		CTX_WRITE(ctx, user_ip6[0], stored->address.word[0]);
		CTX_WRITE(ctx, user_ip6[1], stored->address.word[1]);
		CTX_WRITE(ctx, user_ip6[2], stored->address.word[2]);
		CTX_WRITE(ctx, user_ip6[3], stored->address.word[3]);
		CTX_WRITE(ctx, user_port, stored->port);
	}
	return ALLOW;
}

SEC("cgroup/getsockname4")
int ambit_getsockname4(struct bpf_sock_addr *ctx)
{
	struct ambit_socket *stored;
	struct ambit_pod *pod;

	/* An address the application bound itself is the truth already. */
	if (!is_loopback4(CTX_READ(ctx, user_ip4)))
		return ALLOW;
	stored = captured_socket(ctx);
	if (!stored)
		return ALLOW;
	pod = current_pod(ctx);
	if (pod)
		CTX_WRITE(ctx, user_ip4, source_for(pod, &stored->address, false)->word[3]);
	return ALLOW;
}

SEC("cgroup/getsockname6")
int ambit_getsockname6(struct bpf_sock_addr *ctx)
{
	struct ambit_socket *stored = captured_socket(ctx);
	const struct ambit_address *own;
	struct ambit_address local;
	struct ambit_pod *pod;

	if (!stored)
		return ALLOW;
	local.word[0] = CTX_READ(ctx, user_ip6[0]);
	local.word[1] = CTX_READ(ctx, user_ip6[1]);
	local.word[2] = CTX_READ(ctx, user_ip6[2]);
	local.word[3] = CTX_READ(ctx, user_ip6[3]);
	if (is_mapped(&local)) {
		if (!is_loopback4(local.word[3]))
			return ALLOW;
		pod = current_pod(ctx);
		if (pod)
			CTX_WRITE(ctx, user_ip6[3],
				  source_for(pod, &stored->address, false)->word[3]);
		return ALLOW;
	}
	if (!is_loopback6(&local))
		return ALLOW;
	pod = current_pod(ctx);
	if (pod) {
		own = source_for(pod, &stored->address, true);
		CTX_WRITE(ctx, user_ip6[0], own->word[0]);
		CTX_WRITE(ctx, user_ip6[1], own->word[1]);
		CTX_WRITE(ctx, user_ip6[2], own->word[2]);
		CTX_WRITE(ctx, user_ip6[3], own->word[3]);
	}
	return ALLOW;
}

#endif /* AMBIT_NAMES_H */
