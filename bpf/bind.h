/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * cgroup/bind4 and bind6: connections the agent accepted for the application occupy the application's port, so a
 * restarted application could not bind it. SO_REUSEADDR lifts that; two listeners on one port still exclude each
 * other at listen(). Kernels before 6.1 refuse the option from BPF: counted, and the application is on its own.
 */
#ifndef AMBIT_BIND_H
#define AMBIT_BIND_H

#include "maps.h"

static __always_inline int allow_reuse(struct bpf_sock_addr *ctx)
{
	__u64 netns_cookie = bpf_get_netns_cookie(ctx);
	int one = 1;

	/* UDP is left alone: there the option would let a stranger share the port. */
	if (ctx->protocol != IPPROTO_TCP || !bpf_map_lookup_elem(&pods, &netns_cookie))
		return ALLOW;
	if (bpf_setsockopt(ctx, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)))
		count(AMBIT_BIND_REUSE_FAILED);
	else
		count(AMBIT_BIND_REUSE_SET);
	return ALLOW;
}

SEC("cgroup/bind4")
int ambit_bind4(struct bpf_sock_addr *ctx)
{
	return allow_reuse(ctx);
}

SEC("cgroup/bind6")
int ambit_bind6(struct bpf_sock_addr *ctx)
{
	return allow_reuse(ctx);
}

#endif /* AMBIT_BIND_H */
