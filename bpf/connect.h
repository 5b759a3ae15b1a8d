/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * cgroup/connect4 and connect6: an enrolled pod's TCP connection is turned to the agent's listener on the pod's own
 * loopback, and the address the application asked for is kept in the socket's storage.
 * DNS will stand beside this: connect, sendmsg and recvmsg hooks on UDP port 53, in dns.h.
 */
#ifndef AMBIT_CONNECT_H
#define AMBIT_CONNECT_H

#include "maps.h"

enum verdict { VERDICT_PASS, VERDICT_CAPTURE, VERDICT_DENY };

/* Whether the agent that has the pod takes its calls: it may have taken the slot's socket out, and end what it has. */
static __always_inline bool is_agent_listening(struct bpf_sock_addr *ctx, bool ipv6)
{
	struct ambit_listener key = { .family = ipv6 ? 6 : 4, .kind = AMBIT_LISTENER_OUTBOUND };
	struct bpf_sock *listener;
	bool listening;

	key.netns_cookie = bpf_get_netns_cookie(ctx);
	listener = bpf_map_lookup_elem(&listeners, &key);
	if (!listener)
		return false;
	listening = listener->state == BPF_TCP_LISTEN;
	bpf_sk_release(listener);
	return listening;
}

/*
 * Whether the agent's connection to the application would have the addresses and ports of one that is there: a client's
 * own, which the agent accepted or will. Its SYN would meet that one's socket, not the application. One in TIME_WAIT gives way.
 */
static __always_inline bool is_tuple_taken(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
					   const struct ambit_address *destination, __u16 port, bool ipv6)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *found;
	__u32 state;

	if (ipv6) {
		tuple.ipv6.saddr[0] = sk->src_ip6[0];
		tuple.ipv6.saddr[1] = sk->src_ip6[1];
		tuple.ipv6.saddr[2] = sk->src_ip6[2];
		tuple.ipv6.saddr[3] = sk->src_ip6[3];
		tuple.ipv6.daddr[0] = destination->word[0];
		tuple.ipv6.daddr[1] = destination->word[1];
		tuple.ipv6.daddr[2] = destination->word[2];
		tuple.ipv6.daddr[3] = destination->word[3];
		tuple.ipv6.sport = bpf_htons((__u16)sk->src_port);
		tuple.ipv6.dport = port;
		found = bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	} else {
		tuple.ipv4.saddr = sk->src_ip4;
		tuple.ipv4.daddr = destination->word[3];
		tuple.ipv4.sport = bpf_htons((__u16)sk->src_port);
		tuple.ipv4.dport = port;
		found = bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	if (!found)
		return false;
	state = found->state;
	bpf_sk_release(found);
	return state != BPF_TCP_LISTEN && state != BPF_TCP_TIME_WAIT;
}

/*
 * A socket may connect again after a failure or AF_UNSPEC. When that connection is not captured, what the storage
 * says of the former one must go, or getpeername would lie and a direct call to 15001 would find a destination.
 */
static __always_inline void forget(struct ambit_socket *stored)
{
	if (stored)
		stored->flags &= ~AMBIT_SOCKET_CAPTURED;
}

/* Decides, and when capturing records the destination. `ipv6`: the listener's family, not the socket's. */
static __always_inline enum verdict decide(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
					   const struct ambit_pod *pod,
					   const struct ambit_address *destination, __u16 port, bool ipv6)
{
	struct ambit_socket *stored = bpf_sk_storage_get(&sockets, sk, NULL, 0);

	if (stored && stored->flags & AMBIT_SOCKET_EXEMPT) {
		if (sk->mark == AMBIT_UPSTREAM_MARK && sk->src_port &&
		    is_tuple_taken(ctx, sk, destination, port, ipv6)) {
			if (has_set_retval)
				set_retval(-EADDRINUSE);
			count(AMBIT_OUT_DENY_TUPLE_TAKEN);
			return VERDICT_DENY;
		}
		count(AMBIT_OUT_PASS_EXEMPT);
		return VERDICT_PASS;
	}
	if ((ipv6 ? is_local_scope6(destination) : is_local_scope4(destination->word[3])) ||
	    is_own(pod, destination)) {
		/* Our own doing, by a hook at a cgroup below: a socket load balancer stands before us at this one. */
		if (stored && stored->flags & AMBIT_SOCKET_REWRITTEN &&
		    port == bpf_htons(AMBIT_PORT_OUTBOUND))
			return VERDICT_PASS;
		forget(stored);
		count(AMBIT_OUT_PASS_LOCAL);
		return VERDICT_PASS;
	}
	if (is_zero(ipv6 ? &pod->primary6 : &pod->primary4)) {
		/* As without a mesh, and at once: a dual-stack client goes on to its next address. With an address, routing decides. */
		if (has_set_retval)
			set_retval(-ENETUNREACH);
		count(AMBIT_OUT_DENY_NO_FAMILY);
		return VERDICT_DENY;
	}
	/* Likewise. A socket that is bound to a device needs no route: the kernel takes the destination to be on its link. */
	if (pod->flags & (ipv6 ? AMBIT_POD_CONFINED6 : AMBIT_POD_CONFINED4) && !sk->bound_dev_if &&
	    !is_on_network(pod, destination)) {
		if (has_set_retval)
			set_retval(-ENETUNREACH);
		count(AMBIT_OUT_DENY_NO_ROUTE);
		return VERDICT_DENY;
	}
	if (!is_agent_listening(ctx, ipv6)) {
		if (pod->flags & AMBIT_POD_FAIL_OPEN) {
			forget(stored);
			count(AMBIT_OUT_PASS_FAIL_OPEN);
			return VERDICT_PASS;
		}
		count(AMBIT_OUT_DENY_NO_AGENT);
		return VERDICT_DENY;
	}
	if (!stored)
		stored = bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!stored) {
		count(AMBIT_OUT_DENY_NO_STORAGE);
		return VERDICT_DENY;
	}
	stored->address = *destination;
	stored->port = port;
	stored->flags = AMBIT_SOCKET_CAPTURED | AMBIT_SOCKET_REWRITTEN |
			(stored->flags & AMBIT_SOCKET_OWN_PORT);
	count(ipv6 ? AMBIT_OUT_CAPTURED6 : AMBIT_OUT_CAPTURED4);
	return VERDICT_CAPTURE;
}

/* Marks the kubelet's sockets; sockops then tells sk_lookup to let their connections through. */
static __always_inline void note_probe(struct bpf_sock_addr *ctx, __u64 netns_cookie)
{
	struct ambit_socket *stored;
	struct bpf_sock *sk = ctx->sk;
	__u64 cgroup;

	if (netns_cookie != node_netns_cookie || !sk)
		return;
	cgroup = bpf_get_current_cgroup_id();
	if (!bpf_map_lookup_elem(&kubelet_cgroups, &cgroup))
		return;
	stored = bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!stored)
		return;
	stored->flags |= AMBIT_SOCKET_PROBE;
	count(AMBIT_OUT_PROBE);
}

/*
 * Spreads IPv4 destinations over 127.64.0.0/10: each gets its own range of source ports, so a busy pod does not run
 * out of them. A socket bound to a device cannot use loopback addresses; the pod's own on that device stands in.
 */
static __always_inline __u32 listener_ipv4(const struct ambit_pod *pod, const struct bpf_sock *sk,
					   __u32 ipv4, __u16 port)
{
	__u32 hash;

	if (sk->bound_dev_if)
		return address_of_device(pod, sk->bound_dev_if, false)->word[3];
	hash = ipv4 * 2654435761u ^ port * 40503u; /* Knuth's multipliers: 2^32 and 2^16 over the golden ratio */
	hash ^= hash >> 15;
	return bpf_htonl(0x7f400000 | (hash & 0x3fffff));
}

static __always_inline bool is_tcp(const struct bpf_sock_addr *ctx)
{
	return CTX_READ(ctx, protocol) == IPPROTO_TCP;
}

SEC("cgroup/connect4")
int ambit_connect4(struct bpf_sock_addr *ctx)
{
	__u64 netns_cookie = bpf_get_netns_cookie(ctx);
	struct ambit_pod *pod = bpf_map_lookup_elem(&pods, &netns_cookie);
	struct bpf_sock *sk = ctx->sk;
	struct ambit_address destination;
	__u16 port;

	if (!pod) {
		if (is_tcp(ctx))
			note_probe(ctx, netns_cookie);
		return ALLOW; /* not counted: this is every connection of every pod outside the mesh */
	}
	if (!is_tcp(ctx)) {
		count(AMBIT_OUT_PASS_NOT_TCP);
		return ALLOW;
	}
	if (!sk) {
		count(AMBIT_NO_SOCKET);
		return DENY;
	}
	map_ipv4(&destination, CTX_READ(ctx, user_ip4));
	port = (__u16)CTX_READ(ctx, user_port);
	switch (decide(ctx, sk, pod, &destination, port, false)) {
	case VERDICT_PASS:
		return ALLOW;
	case VERDICT_DENY:
		return DENY;
	case VERDICT_CAPTURE:
		break;
	}
	CTX_WRITE(ctx, user_ip4, listener_ipv4(pod, sk, destination.word[3], port));
	CTX_WRITE(ctx, user_port, bpf_htons(AMBIT_PORT_OUTBOUND));
	return ALLOW;
}

SEC("cgroup/connect6")
int ambit_connect6(struct bpf_sock_addr *ctx)
{
	__u64 netns_cookie = bpf_get_netns_cookie(ctx);
	struct ambit_pod *pod = bpf_map_lookup_elem(&pods, &netns_cookie);
	struct bpf_sock *sk = ctx->sk;
	struct ambit_address destination;
	__u16 port;
	bool mapped;

	if (!pod) {
		if (is_tcp(ctx))
			note_probe(ctx, netns_cookie);
		return ALLOW; /* not counted: this is every connection of every pod outside the mesh */
	}
	if (!is_tcp(ctx)) {
		count(AMBIT_OUT_PASS_NOT_TCP);
		return ALLOW;
	}
	if (!sk) {
		count(AMBIT_NO_SOCKET);
		return DENY;
	}
	destination.word[0] = CTX_READ(ctx, user_ip6[0]);
	destination.word[1] = CTX_READ(ctx, user_ip6[1]);
	destination.word[2] = CTX_READ(ctx, user_ip6[2]);
	destination.word[3] = CTX_READ(ctx, user_ip6[3]);
	port = (__u16)CTX_READ(ctx, user_port);
	mapped = is_mapped(&destination);
	switch (decide(ctx, sk, pod, &destination, port, !mapped)) {
	case VERDICT_PASS:
		return ALLOW;
	case VERDICT_DENY:
		return DENY;
	case VERDICT_CAPTURE:
		break;
	}
	if (mapped) {
		CTX_WRITE(ctx, user_ip6[3], listener_ipv4(pod, sk, destination.word[3], port));
	} else if (sk->bound_dev_if) {
		const struct ambit_address *own = address_of_device(pod, sk->bound_dev_if, true);

		CTX_WRITE(ctx, user_ip6[0], own->word[0]);
		CTX_WRITE(ctx, user_ip6[1], own->word[1]);
		CTX_WRITE(ctx, user_ip6[2], own->word[2]);
		CTX_WRITE(ctx, user_ip6[3], own->word[3]);
	} else {
		CTX_WRITE(ctx, user_ip6[0], 0);
		CTX_WRITE(ctx, user_ip6[1], 0);
		CTX_WRITE(ctx, user_ip6[2], 0);
		CTX_WRITE(ctx, user_ip6[3], bpf_htonl(1));
	}
	CTX_WRITE(ctx, user_port, bpf_htons(AMBIT_PORT_OUTBOUND));
	return ALLOW;
}

#endif /* AMBIT_CONNECT_H */
