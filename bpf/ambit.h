/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the BPF programs, the native shim and TypeScript share: the structs kept in maps and the list of counted
 * reasons. agent/capture/layout.ts mirrors it, and compares every offset and size with BTF before loading.
 * Addresses are 16 bytes in network order, IPv4 in its v4-mapped form (::ffff:a.b.c.d), so that one key serves both.
 */
#ifndef AMBIT_H
#define AMBIT_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

/*
 * Stands in the program text of sk_lookup, which cannot ask in which namespace it runs: each namespace gets a copy with
 * its own cookie here (native/program-text.ts). No cookie is so high: the kernel counts them from 1.
 */
#define AMBIT_OWN_COOKIE 0xa3b17c0041eaddeeULL
/* Likewise, for 1 where the kernel tells sk_lookup by which device a packet came (5.17), else 0. */
#define AMBIT_SEES_DEVICE 0xa3b17c0041eaddefULL

/* Mark of the agent's connections to applications, whose answers a routing rule keeps in the pod. */
#define AMBIT_UPSTREAM_MARK 0x111

/* Ports of the listeners inside each pod's namespace (the same numbers as Istio's ztunnel). */
#define AMBIT_PORT_OUTBOUND 15001
#define AMBIT_PORT_INBOUND 15006
#define AMBIT_PORT_HBONE 15008

/* Addresses of one pod that the hooks know; calls to further ones of its own go by the agent. */
#define AMBIT_MAX_ADDRESSES 16

struct ambit_address {
	__u32 word[4];
};

/* One address of a pod's namespace. */
struct ambit_pod_address {
	struct ambit_address address;
	struct ambit_address mask;	/* of its network */
	__u32 interface;		/* index of its device in the pod */
	__u32 reserved;
};

/* pods[netns cookie]: the pod is enrolled. */
struct ambit_pod {
	__u32 flags;		/* AMBIT_POD_* */
	__u32 address_count;
	struct ambit_address primary4;	/* all zero: the namespace has no IPv4 to call from */
	struct ambit_address primary6;	/* all zero: the namespace has no IPv6 to call from */
	struct ambit_pod_address address[AMBIT_MAX_ADDRESSES]; /* those of the narrowest networks first */
};

#define AMBIT_POD_FAIL_OPEN 1	/* without an agent: let connections pass, in plaintext */
#define AMBIT_POD_CONFINED4 2	/* its routes lead no further than the networks of its addresses */
#define AMBIT_POD_CONFINED6 4

/* What an application asked of its socket that the agent's leg beyond must do in its stead. 0: nothing. */
struct ambit_asked {
	__u32 keep_alive;		/* SO_KEEPALIVE, 1 or 0 */
	__u32 keep_idle_s;		/* TCP_KEEPIDLE */
	__u32 keep_interval_s;		/* TCP_KEEPINTVL */
	__u32 keep_probes;		/* TCP_KEEPCNT */
	__u32 user_timeout_ms;		/* TCP_USER_TIMEOUT */
	__u32 traffic_class;		/* IP_TOS or IPV6_TCLASS, without the bits of ECN */
};

/* Socket storage: of an application's socket, of the agent's, or of an accepted outbound connection. */
struct ambit_socket {
	struct ambit_address address;	/* the destination the application asked for */
	__u16 port;			/* network order */
	__u16 flags;			/* AMBIT_SOCKET_* */
	__u32 reserved;
	__u64 cookie;			/* of the application's socket, once captured */
	struct ambit_asked asked;
};

#define AMBIT_SOCKET_EXEMPT 1	/* the agent's own: never captured; set through the fd only */
#define AMBIT_SOCKET_CAPTURED 2	/* an application's, redirected by the connect hook */
#define AMBIT_SOCKET_ACCEPTED 4	/* the agent's end of a captured connection */
#define AMBIT_SOCKET_PROBE 8	/* opened by the kubelet */
#define AMBIT_SOCKET_SELF_TEST 16	/* the agent asks: do you see my sockets? */
#define AMBIT_SOCKET_SEEN 32	/* sockops answers: yes */
#define AMBIT_SOCKET_OWN_PORT 128	/* the application chose the port it calls from */
#define AMBIT_SOCKET_REWRITTEN 64 /* captured within the connect() under way */

/* pending[tuple]: a captured connection between its SYN and the moment the agent's end exists. */
struct ambit_tuple {
	__u64 netns_cookie;
	struct ambit_address source;
	struct ambit_address destination;
	__u16 source_port;		/* network order */
	__u16 destination_port;		/* network order */
	__u32 reserved;
};

/*
 * trusted[tuple]: a connection that sk_lookup hands straight to the application. The agent's are good in the namespace
 * they were made in; the kubelet's, which come from the node's, in whichever they are routed to (cookie 0).
 */
struct ambit_trusted_tuple {
	__u64 netns_cookie;
	struct ambit_address remote;
	struct ambit_address local;
	__u16 remote_port;		/* network order */
	__u16 local_port;		/* network order */
	__u32 reserved;
};

/* listeners[netns cookie, family, kind]: the agent's inbound listeners. */
struct ambit_listener {
	__u64 netns_cookie;
	__u16 family;			/* 4 or 6 */
	__u16 kind;			/* AMBIT_LISTENER_* */
	__u32 reserved;
};

#define AMBIT_LISTENER_PLAINTEXT 0
#define AMBIT_LISTENER_HBONE 1
#define AMBIT_LISTENER_OUTBOUND 2

/* Why a program returned: the index into the per-CPU `counters`. Mirrored by agent/capture/counters.ts. */
enum ambit_reason {
	AMBIT_OUT_CAPTURED4,
	AMBIT_OUT_CAPTURED6,
	AMBIT_OUT_PASS_NOT_TCP,
	AMBIT_OUT_PASS_LOCAL,		/* loopback, own address, unspecified, multicast, link-local */
	AMBIT_OUT_PASS_EXEMPT,
	AMBIT_OUT_PASS_FAIL_OPEN,
	AMBIT_OUT_DENY_NO_AGENT,
	AMBIT_OUT_DENY_NO_STORAGE,
	AMBIT_OUT_DENY_NO_FAMILY,	/* the namespace has no address to call that family from */
	AMBIT_OUT_PROBE,		/* the kubelet connects */
	AMBIT_PENDING_PUBLISHED,
	AMBIT_PENDING_FULL,		/* the agent will find no destination and reset */
	AMBIT_PENDING_HANDED_OVER,
	AMBIT_PENDING_MISSING,		/* a direct call to 15001 */
	AMBIT_PENDING_NO_STORAGE,
	AMBIT_TRUST_ADDED,
	AMBIT_TRUST_FULL,
	AMBIT_TRUST_FORGOTTEN,
	AMBIT_IN_PASS_LOCAL,
	AMBIT_IN_PASS_TRUSTED,
	AMBIT_IN_PASS_FAIL_OPEN,
	AMBIT_IN_ASSIGNED_PLAINTEXT,
	AMBIT_IN_ASSIGNED_HBONE,
	AMBIT_IN_DROP_NO_AGENT,
	AMBIT_IN_DROP_ASSIGN_FAILED,
	AMBIT_BIND_REUSE_SET,
	AMBIT_BIND_REUSE_FAILED,
	AMBIT_BIND_DENY_MESH_PORT,	/* an application wants a port of the agent's */
	AMBIT_PENDING_POD_FULL,		/* one pod has too many handshakes under way: treated as PENDING_FULL */
	AMBIT_NO_SOCKET,		/* the kernel gave the program no socket */
	AMBIT_OUT_DENY_TUPLE_TAKEN,	/* the agent's source port is a client's own: it takes another */
	AMBIT_OUT_DENY_NO_ROUTE,	/* the namespace's routes do not lead there */
	AMBIT_REASON_COUNT,
};

#endif /* AMBIT_H */
