/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * sk_lookup, linked to each enrolled namespace: every TCP connection that reaches the pod from outside goes to the
 * agent's listener, on whatever port and whether or not the application listens there. Nothing is rewritten.
 */
#ifndef AMBIT_LOOKUP_H
#define AMBIT_LOOKUP_H

#include "maps.h"

SEC("sk_lookup")
int ambit_sk_lookup(struct bpf_sk_lookup *ctx)
{
	struct ambit_trusted_tuple tuple = {};
	struct ambit_listener key = {};
	struct ambit_address_info *info;
	struct bpf_sock *listener;
	long failed;

	if (CTX_READ(ctx, protocol) != IPPROTO_TCP)
		return SK_PASS; /* not counted: UDP is every datagram to an unconnected socket */
	if (CTX_READ(ctx, family) == AF_INET) {
		map_ipv4(&tuple.local, CTX_READ(ctx, local_ip4));
		map_ipv4(&tuple.remote, CTX_READ(ctx, remote_ip4));
	} else {
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
	 * Loopback comes first: the connect hook's question whether the agent listens runs through here too. A pod
	 * that calls its own address is recognised by equal addresses; the device says nothing (it is eth0).
	 */
	if (is_loopback6(&tuple.local) ||
	    (is_mapped(&tuple.local) && is_loopback4(tuple.local.word[3])) ||
	    is_same(&tuple.local, &tuple.remote)) {
		count(AMBIT_IN_PASS_LOCAL);
		return SK_PASS;
	}
	/* 32 bits wide before 5.18, 16 since; this reads both. */
	tuple.remote_port = (__u16)CTX_LOAD(ctx, remote_port, "u16");
	tuple.local_port = bpf_htons((__u16)CTX_READ(ctx, local_port));
	if (bpf_map_lookup_elem(&trusted, &tuple)) {
		count(AMBIT_IN_PASS_TRUSTED);
		return SK_PASS;
	}
	info = bpf_map_lookup_elem(&addresses, &tuple.local);
	if (!info) {
		count(AMBIT_IN_DROP_UNKNOWN_ADDRESS);
		return SK_DROP;
	}
	key.address = tuple.local;
	key.kind = tuple.local_port == bpf_htons(AMBIT_PORT_HBONE) ? AMBIT_LISTENER_HBONE :
								    AMBIT_LISTENER_PLAINTEXT;
	listener = bpf_map_lookup_elem(&listeners, &key);
	if (!listener) {
		if (info->flags & AMBIT_POD_FAIL_OPEN) {
			count(AMBIT_IN_PASS_FAIL_OPEN);
			return SK_PASS;
		}
		count(AMBIT_IN_DROP_NO_AGENT);
		return SK_DROP;
	}
	/* The slot's socket and no other: during a takeover two agents' listeners share the port. */
	failed = bpf_sk_assign(ctx, listener, BPF_SK_LOOKUP_F_NO_REUSEPORT);
	bpf_sk_release(listener);
	if (failed) {
		count(AMBIT_IN_DROP_ASSIGN_FAILED);
		return SK_DROP;
	}
	count(key.kind == AMBIT_LISTENER_HBONE ? AMBIT_IN_ASSIGNED_HBONE : AMBIT_IN_ASSIGNED_PLAINTEXT);
	return SK_PASS;
}

#endif /* AMBIT_LOOKUP_H */
