/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * sockops carries knowledge across a connection's two ends: the destination from the application's socket to the
 * agent's accepted one (through `pending`), and trust from the kubelet's or the agent's socket to sk_lookup (through
 * `trusted`). Both entries live for the handshake only.
 */
#ifndef AMBIT_SOCKOPS_H
#define AMBIT_SOCKOPS_H

#include "maps.h"

struct endpoints {
	struct ambit_address local;
	struct ambit_address remote;
	__u16 local_port;  /* network order */
	__u16 remote_port; /* network order */
};

static __always_inline void read_endpoints(struct bpf_sock_ops *ctx, struct endpoints *ends)
{
	if (CTX_READ(ctx, family) == AF_INET) {
		map_ipv4(&ends->local, CTX_READ(ctx, local_ip4));
		map_ipv4(&ends->remote, CTX_READ(ctx, remote_ip4));
	} else {
		ends->local.word[0] = CTX_READ(ctx, local_ip6[0]);
		ends->local.word[1] = CTX_READ(ctx, local_ip6[1]);
		ends->local.word[2] = CTX_READ(ctx, local_ip6[2]);
		ends->local.word[3] = CTX_READ(ctx, local_ip6[3]);
		ends->remote.word[0] = CTX_READ(ctx, remote_ip6[0]);
		ends->remote.word[1] = CTX_READ(ctx, remote_ip6[1]);
		ends->remote.word[2] = CTX_READ(ctx, remote_ip6[2]);
		ends->remote.word[3] = CTX_READ(ctx, remote_ip6[3]);
	}
	ends->local_port = bpf_htons((__u16)CTX_READ(ctx, local_port));
	/* The context holds this one in network order within 32 bits. */
	ends->remote_port = bpf_htons((__u16)bpf_ntohl(CTX_READ(ctx, remote_port)));
}

/* The tuple as the connecting end sees it. */
static __always_inline void pending_key(struct ambit_tuple *key, __u64 netns_cookie,
					const struct ambit_address *source, __u16 source_port,
					const struct ambit_address *destination, __u16 destination_port)
{
	key->netns_cookie = netns_cookie;
	key->source = *source;
	key->destination = *destination;
	key->source_port = source_port;
	key->destination_port = destination_port;
	key->reserved = 0;
}

/* The tuple as sk_lookup will see it at the accepting end. */
static __always_inline void trusted_key(struct ambit_trusted_tuple *key, __u64 netns_cookie,
					const struct ambit_address *client, __u16 client_port,
					const struct ambit_address *server, __u16 server_port)
{
	/* What the node's own sockets are trusted with, the kubelet's, arrives in some other namespace. */
	key->netns_cookie = netns_cookie == node_netns_cookie ? 0 : netns_cookie;
	key->remote = *client;
	key->local = *server;
	key->remote_port = client_port;
	key->local_port = server_port;
	key->reserved = 0;
}

/* The number of handshakes of a namespace, made at its first; NULL when there is no memory for it. */
static __always_inline __s64 *pending_count(__u64 netns_cookie)
{
	__s64 *of_pod = bpf_map_lookup_elem(&pending_counts, &netns_cookie);
	__s64 none = 0;

	if (of_pod)
		return of_pod;
	bpf_map_update_elem(&pending_counts, &netns_cookie, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&pending_counts, &netns_cookie);
}

/* Both ends try to take an entry out; whoever did it counts. */
static __always_inline void forget_pending(const struct ambit_tuple *key)
{
	__u64 netns_cookie = key->netns_cookie;
	__s64 *of_pod;

	if (bpf_map_delete_elem(&pending, key))
		return; /* not counted: the other end was first */
	of_pod = bpf_map_lookup_elem(&pending_counts, &netns_cookie);
	if (of_pod)
		__sync_fetch_and_add(of_pod, -1);
}

static __always_inline void publish_pending(struct bpf_sock_ops *ctx, const struct endpoints *ends,
					    const struct ambit_socket *stored)
{
	struct ambit_socket value = *stored;
	__u64 cookie = bpf_get_netns_cookie(ctx);
	__s64 *of_pod = pending_count(cookie);
	struct ambit_tuple key;
	long failed;

	if (!of_pod || *of_pod >= MAX_PENDING_PER_POD) {
		count(AMBIT_PENDING_POD_FULL);
		return;
	}
	pending_key(&key, cookie, &ends->local, ends->local_port, &ends->remote, ends->remote_port);
	failed = bpf_map_update_elem(&pending, &key, &value, BPF_NOEXIST);
	if (!failed)
		__sync_fetch_and_add(of_pod, 1);
	else if (failed == -EEXIST) /* left by a connection with the same ports: counted already */
		failed = bpf_map_update_elem(&pending, &key, &value, BPF_EXIST);
	if (failed) {
		count(AMBIT_PENDING_FULL);
		return;
	}
	bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
	count(AMBIT_PENDING_PUBLISHED);
}

static __always_inline void publish_trust(struct bpf_sock_ops *ctx, const struct endpoints *ends)
{
	struct ambit_trusted_tuple key;
	__u64 cookie = bpf_get_netns_cookie(ctx);

	trusted_key(&key, cookie, &ends->local, ends->local_port, &ends->remote, ends->remote_port);
	if (bpf_map_update_elem(&trusted, &key, &cookie, BPF_ANY)) {
		count(AMBIT_TRUST_FULL);
		return;
	}
	bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
	count(AMBIT_TRUST_ADDED);
}

/* Before the SYN leaves, which is in time for data in the SYN (TFO) too. */
static __always_inline void on_connect(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct ambit_socket *stored = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	struct endpoints ends;

	if (!stored)
		return;
	if (stored->flags & AMBIT_SOCKET_SELF_TEST)
		stored->flags |= AMBIT_SOCKET_SEEN;
	if (!(stored->flags & (AMBIT_SOCKET_CAPTURED | AMBIT_SOCKET_EXEMPT | AMBIT_SOCKET_PROBE)))
		return;
	read_endpoints(ctx, &ends);
	if (stored->flags & AMBIT_SOCKET_CAPTURED) {
		stored->flags &= ~AMBIT_SOCKET_REWRITTEN;
		stored->cookie = bpf_get_socket_cookie(ctx);
		publish_pending(ctx, &ends, stored);
		return;
	}
	/*
	 * Of the agent's calls those to the pod's own application are trusted, which it marks; they may go to whatever
	 * address is local there. Its other calls meet the capture of the pods they reach, on this node as on any.
	 */
	if (stored->flags & AMBIT_SOCKET_EXEMPT && sk->mark != AMBIT_UPSTREAM_MARK)
		return;
	publish_trust(ctx, &ends);
}

/*
 * The connection exists now and needs no further lookup: a later SYN must not inherit its trust. That of the agent alone, which is
 * good in this namespace: the kubelet's names none, and what looks like its probe here may be another's, of a pod that has taken
 * the node's and its neighbour's addresses. It goes when the kubelet's own socket closes.
 */
static __always_inline void forget_trust(struct bpf_sock_ops *ctx, __u64 netns_cookie)
{
	struct ambit_trusted_tuple key;
	struct endpoints ends;

	if (!bpf_map_lookup_elem(&pods, &netns_cookie))
		return; /* not counted: every connection accepted outside the mesh */
	read_endpoints(ctx, &ends);
	trusted_key(&key, netns_cookie, &ends.remote, ends.remote_port, &ends.local, ends.local_port);
	if (!bpf_map_delete_elem(&trusted, &key))
		count(AMBIT_TRUST_FORGOTTEN);
}

/* The agent's end of a captured connection takes over the destination. */
static __always_inline void on_accept(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct ambit_socket *stored;
	struct ambit_socket value;
	struct ambit_tuple key;
	struct endpoints ends;
	__u64 netns_cookie = bpf_get_netns_cookie(ctx);

	/* Also when the pod was withdrawn a moment ago: what the connect hook began is finished. */
	if (CTX_READ(ctx, local_port) != AMBIT_PORT_OUTBOUND) {
		forget_trust(ctx, netns_cookie);
		return;
	}
	read_endpoints(ctx, &ends);
	pending_key(&key, netns_cookie, &ends.remote, ends.remote_port, &ends.local, ends.local_port);
	stored = bpf_map_lookup_elem(&pending, &key);
	if (!stored) {
		count(AMBIT_PENDING_MISSING);
		return;
	}
	value = *stored;
	value.flags = AMBIT_SOCKET_ACCEPTED | (value.flags & AMBIT_SOCKET_OWN_PORT);
	if (bpf_sk_storage_get(&sockets, sk, &value, BPF_SK_STORAGE_GET_F_CREATE))
		count(AMBIT_PENDING_HANDED_OVER);
	else
		count(AMBIT_PENDING_NO_STORAGE);
	forget_pending(&key);
}

/* The connecting end closes: what the handshake did not use up must not wait for a tuple that looks alike. */
static __always_inline void on_close(struct bpf_sock_ops *ctx)
{
	struct ambit_trusted_tuple trusted_tuple;
	struct ambit_tuple key;
	struct endpoints ends;

	__u64 netns_cookie = bpf_get_netns_cookie(ctx);

	read_endpoints(ctx, &ends);
	trusted_key(&trusted_tuple, netns_cookie, &ends.local, ends.local_port, &ends.remote,
		    ends.remote_port);
	if (!bpf_map_delete_elem(&trusted, &trusted_tuple))
		count(AMBIT_TRUST_FORGOTTEN);
	pending_key(&key, netns_cookie, &ends.local, ends.local_port, &ends.remote,
		    ends.remote_port);
	forget_pending(&key);
}

SEC("sockops")
int ambit_sockops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk;
	__u32 op = CTX_READ(ctx, op);

	/* Most callbacks are of no interest; they are not counted. */
	if (op != BPF_SOCK_OPS_TCP_CONNECT_CB && op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB &&
	    op != BPF_SOCK_OPS_STATE_CB)
		return 1;
	if (op == BPF_SOCK_OPS_STATE_CB) {
		if (CTX_READ(ctx, args[1]) == BPF_TCP_CLOSE)
			on_close(ctx);
		return 1;
	}
	sk = ctx->sk;
	if (!sk) {
		count(AMBIT_NO_SOCKET);
		return 1;
	}
	if (op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		on_connect(ctx, sk);
	else
		on_accept(ctx, sk);
	return 1;
}

#endif /* AMBIT_SOCKOPS_H */
