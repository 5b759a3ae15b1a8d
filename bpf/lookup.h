/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * sk_lookup, linked to each enrolled namespace: every TCP connection that reaches the pod from outside goes to the
 * agent's listener, on whatever port and whether or not the application listens there, and on whatever address: the
 * kernel asks only for what is local to the namespace. Nothing is rewritten.
 */
#ifndef AMBIT_LOOKUP_H
#define AMBIT_LOOKUP_H

#include "maps.h"

/* Of struct bpf_sk_lookup; headers before 5.17 do not have the field. */
#define INGRESS_IFINDEX_OFFSET 64

/* As text, not as a variable: that would be a map for each copy. */
#define TEXT_CONSTANT(placeholder)                                                           \
	({                                                                                   \
		__u64 constant_;                                                             \
		asm volatile("%0 = %1 ll" : "=r"(constant_) : "i"(placeholder));             \
		constant_;                                                                   \
	})

/* No packet, but a question of the connect hook's: no device has the number 0. Before 5.17 it cannot be told. */
static __always_inline bool is_question(struct bpf_sk_lookup *ctx)
{
	return TEXT_CONSTANT(AMBIT_SEES_DEVICE) == 1 &&
	       !CTX_LOAD_AT(ctx, INGRESS_IFINDEX_OFFSET, "u32");
}

static __always_inline bool is_trusted(struct ambit_trusted_tuple *tuple, __u64 netns_cookie)
{
	tuple->netns_cookie = netns_cookie;
	if (bpf_map_lookup_elem(&trusted, tuple))
		return true;
	tuple->netns_cookie = 0; /* the kubelet's */
	return bpf_map_lookup_elem(&trusted, tuple);
}

/* Chooses the socket, and says why. */
static __always_inline enum ambit_reason choose(struct bpf_sk_lookup *ctx)
{
	struct ambit_trusted_tuple tuple = {};
	struct ambit_listener key = {};
	struct bpf_sock *listener;
	struct ambit_pod *pod;
	long failed;

	key.netns_cookie = TEXT_CONSTANT(AMBIT_OWN_COOKIE);
	if (CTX_READ(ctx, family) == AF_INET) {
		key.family = 4;
		map_ipv4(&tuple.local, CTX_READ(ctx, local_ip4));
		map_ipv4(&tuple.remote, CTX_READ(ctx, remote_ip4));
	} else {
		key.family = 6;
		tuple.local.word[0] = CTX_READ(ctx, local_ip6[0]);
		tuple.local.word[1] = CTX_READ(ctx, local_ip6[1]);
		tuple.local.word[2] = CTX_READ(ctx, local_ip6[2]);
		tuple.local.word[3] = CTX_READ(ctx, local_ip6[3]);
		tuple.remote.word[0] = CTX_READ(ctx, remote_ip6[0]);
		tuple.remote.word[1] = CTX_READ(ctx, remote_ip6[1]);
		tuple.remote.word[2] = CTX_READ(ctx, remote_ip6[2]);
		tuple.remote.word[3] = CTX_READ(ctx, remote_ip6[3]);
	}
	/*
	 * Loopback comes first: before 5.17 the connect hook's question whether the agent listens runs through here. A pod
	 * that calls its own address is recognised by equal addresses; the device says nothing (it is eth0). Captured calls
	 * come here by it, and are for the agent that has the pod: of two, the earlier takes none any more.
	 */
	if (is_loopback6(&tuple.local) ||
	    (is_mapped(&tuple.local) && is_loopback4(tuple.local.word[3])) ||
	    is_same(&tuple.local, &tuple.remote)) {
		if (CTX_READ(ctx, local_port) == AMBIT_PORT_OUTBOUND) {
			key.kind = AMBIT_LISTENER_OUTBOUND;
			listener = bpf_map_lookup_elem(&listeners, &key);
			if (listener) {
				/* What it fails to take, the kernel finds by the port. */
				bpf_sk_assign(ctx, listener, BPF_SK_LOOKUP_F_NO_REUSEPORT);
				bpf_sk_release(listener);
			}
		}
		return AMBIT_IN_PASS_LOCAL;
	}
	/* 32 bits wide before 5.18, 16 since; this reads both. */
	tuple.remote_port = (__u16)CTX_LOAD(ctx, remote_port, "u16");
	tuple.local_port = bpf_htons((__u16)CTX_READ(ctx, local_port));
	if (is_trusted(&tuple, key.netns_cookie))
		return AMBIT_IN_PASS_TRUSTED;
	key.kind = tuple.local_port == bpf_htons(AMBIT_PORT_HBONE) ? AMBIT_LISTENER_HBONE :
								    AMBIT_LISTENER_PLAINTEXT;
	listener = bpf_map_lookup_elem(&listeners, &key);
	if (!listener) {
		pod = bpf_map_lookup_elem(&pods, &key.netns_cookie);
		return pod && pod->flags & AMBIT_POD_FAIL_OPEN ? AMBIT_IN_PASS_FAIL_OPEN :
								 AMBIT_IN_DROP_NO_AGENT;
	}
	/* The slot's socket and no other: during a takeover two agents' listeners share the port. */
	failed = bpf_sk_assign(ctx, listener, BPF_SK_LOOKUP_F_NO_REUSEPORT);
	bpf_sk_release(listener);
	if (failed)
		return AMBIT_IN_DROP_ASSIGN_FAILED;
	return key.kind == AMBIT_LISTENER_HBONE ? AMBIT_IN_ASSIGNED_HBONE :
						  AMBIT_IN_ASSIGNED_PLAINTEXT;
}

SEC("sk_lookup")
int ambit_sk_lookup(struct bpf_sk_lookup *ctx)
{
	enum ambit_reason reason;

	if (CTX_READ(ctx, protocol) != IPPROTO_TCP)
		return SK_PASS; /* not counted: UDP is every datagram to an unconnected socket */
	if (is_question(ctx))
		return SK_PASS; /* what the pod has is there to be found */
	reason = choose(ctx);
	count(reason);
	return reason == AMBIT_IN_DROP_NO_AGENT || reason == AMBIT_IN_DROP_ASSIGN_FAILED ? SK_DROP :
											    SK_PASS;
}

#endif /* AMBIT_LOOKUP_H */
