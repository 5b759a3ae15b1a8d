// SPDX-License-Identifier: Apache-2.0
/*
 * Sockets in another network namespace, made ready in one call: options, the exempt flag, bind, listen. The data
 * plane calls it once per connection, so all steps share one pair of setns() calls and no memory is allocated.
 */
#define _GNU_SOURCE
#include "../../bpf/ambit.h"
#include "netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

enum ambit_socket_flag {
	AMBIT_REUSE_ADDRESS = 1 << 0,
	AMBIT_REUSE_PORT = 1 << 1,
	AMBIT_FREE_BIND = 1 << 2,
	AMBIT_TRANSPARENT = 1 << 3,
	AMBIT_BIND_NO_PORT = 1 << 4,
	AMBIT_NO_DELAY = 1 << 5,
	AMBIT_KEEP_ALIVE = 1 << 6,
	AMBIT_BIND = 1 << 7,
	AMBIT_EXEMPT = 1 << 8,
	AMBIT_URGENT_INLINE = 1 << 9,
};

/* Mirrored by native/socket-spec.ts. */
struct ambit_socket_spec {
	__s32 netns_fd;		/* -1: stay at home */
	__s32 home_fd;
	__s32 family;
	__s32 type;
	__u32 flags;
	__u32 mark;		/* 0: none */
	__s32 storage_map_fd;	/* where AMBIT_EXEMPT is written */
	__s32 backlog;		/* 0: do not listen */
	__u8 address[16];	/* network order; the first 4 bytes for IPv4 */
	__u16 port;		/* host order */
	__u16 protocol;		/* 0: the family's default */
};

/*
 * Finds peers that vanished without a FIN. 180 s of silence is Istio's value; the dead is found after 60 s more, before a cloud's
 * idle timeout of 350 s forgets the flow.
 */
#define KEEPALIVE_IDLE_S 180
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_PROBES 6

struct option {
	__u32 flag;
	int level;
	int name;
	int value;
	const char *call;
};

static const struct option common_options[] = {
	{ AMBIT_REUSE_ADDRESS, SOL_SOCKET, SO_REUSEADDR, 1, "setsockopt(SO_REUSEADDR)" },
	{ AMBIT_REUSE_PORT, SOL_SOCKET, SO_REUSEPORT, 1, "setsockopt(SO_REUSEPORT)" },
	{ AMBIT_NO_DELAY, IPPROTO_TCP, TCP_NODELAY, 1, "setsockopt(TCP_NODELAY)" },
	/* Else the kernel takes an urgent byte out of the stream, and whoever relays the stream loses it. */
	{ AMBIT_URGENT_INLINE, SOL_SOCKET, SO_OOBINLINE, 1, "setsockopt(SO_OOBINLINE)" },
	{ AMBIT_KEEP_ALIVE, SOL_SOCKET, SO_KEEPALIVE, 1, "setsockopt(SO_KEEPALIVE)" },
	{ AMBIT_KEEP_ALIVE, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S, "setsockopt(TCP_KEEPIDLE)" },
	{ AMBIT_KEEP_ALIVE, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S, "setsockopt(TCP_KEEPINTVL)" },
	{ AMBIT_KEEP_ALIVE, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES, "setsockopt(TCP_KEEPCNT)" },
	/* Works for IPv6 sockets too: the port is chosen at connect, so the 4-tuple is unique, not the port alone. */
	{ AMBIT_BIND_NO_PORT, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1, "setsockopt(IP_BIND_ADDRESS_NO_PORT)" },
	{ 0, 0, 0, 0, NULL },
};

static const struct option ipv4_options[] = {
	{ AMBIT_FREE_BIND, SOL_IP, IP_FREEBIND, 1, "setsockopt(IP_FREEBIND)" },
	{ AMBIT_TRANSPARENT, SOL_IP, IP_TRANSPARENT, 1, "setsockopt(IP_TRANSPARENT)" },
	{ 0, 0, 0, 0, NULL },
};

static const struct option ipv6_options[] = {
	{ ~0u, SOL_IPV6, IPV6_V6ONLY, 1, "setsockopt(IPV6_V6ONLY)" },
	{ AMBIT_FREE_BIND, SOL_IPV6, IPV6_FREEBIND, 1, "setsockopt(IPV6_FREEBIND)" },
	{ AMBIT_TRANSPARENT, SOL_IPV6, IPV6_TRANSPARENT, 1, "setsockopt(IPV6_TRANSPARENT)" },
	{ 0, 0, 0, 0, NULL },
};

static const char *set_options(int fd, const struct option *option, __u32 flags)
{
	for (; option->call; option++) {
		/* ~0 stands for "always", also when no flag is set. */
		if (option->flag != ~0u && !(flags & option->flag))
			continue;
		if (setsockopt(fd, option->level, option->name, &option->value, sizeof(option->value)))
			return option->call;
	}
	return NULL;
}

static int set_storage(int map_fd, int fd, const struct ambit_socket *value)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = (__u32)map_fd;
	attr.key = (__u64)(unsigned long)&fd;
	attr.value = (__u64)(unsigned long)value;
	return (int)syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &attr, sizeof(attr));
}

static const char *set_exempt(int fd, int map_fd)
{
	struct ambit_socket value = { .flags = AMBIT_SOCKET_EXEMPT };

	return set_storage(map_fd, fd, &value) ? "bpf(socket storage)" : NULL;
}

static const char *bind_and_listen(int fd, const struct ambit_socket_spec *spec)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(spec->port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(spec->port) };
	int failed;

	if (spec->flags & AMBIT_BIND) {
		memcpy(&v4.sin_addr, spec->address, sizeof(v4.sin_addr));
		memcpy(&v6.sin6_addr, spec->address, sizeof(v6.sin6_addr));
		if (spec->family == AF_INET)
			failed = bind(fd, (struct sockaddr *)&v4, sizeof(v4));
		else
			failed = bind(fd, (struct sockaddr *)&v6, sizeof(v6));
		if (failed)
			return "bind";
	}
	if (spec->backlog > 0 && listen(fd, spec->backlog))
		return "listen";
	return NULL;
}

static const char *prepare(int fd, const struct ambit_socket_spec *spec)
{
	const char *failed = NULL;

	if (spec->family == AF_INET || spec->family == AF_INET6) {
		failed = set_options(fd, common_options, spec->flags);
		if (!failed)
			failed = set_options(fd, spec->family == AF_INET ? ipv4_options : ipv6_options,
					     spec->flags);
	}
	if (!failed && spec->mark &&
	    setsockopt(fd, SOL_SOCKET, SO_MARK, &spec->mark, sizeof(spec->mark)))
		failed = "setsockopt(SO_MARK)";
	if (!failed && (spec->flags & AMBIT_EXEMPT))
		failed = set_exempt(fd, spec->storage_map_fd);
	return failed ? failed : bind_and_listen(fd, spec);
}

/* Gives the fd of a non-blocking socket made as `spec` says, or -errno. */
int ambit_socket_open(const struct ambit_socket_spec *spec, char *call)
{
	const char *failed;
	int result, fd;

	if (spec->netns_fd >= 0) {
		result = ambit_netns_enter(spec->netns_fd, call);
		if (result)
			return result;
	}
	fd = socket(spec->family, spec->type | SOCK_CLOEXEC | SOCK_NONBLOCK, spec->protocol);
	result = fd < 0 ? ambit_fail(call, "socket") : fd;
	/* The socket keeps the namespace it was made in; nothing below depends on where the thread is. */
	if (spec->netns_fd >= 0)
		ambit_netns_leave(spec->home_fd);
	if (fd < 0)
		return result;
	failed = prepare(fd, spec);
	if (failed) {
		result = ambit_fail(call, failed);
		close(fd);
	}
	return result;
}

/* Sets the agent's flag on a socket that exists already (the kernel's storage is reached through the fd). */
int ambit_socket_flag(int fd, int storage_map_fd, int flags, char *call)
{
	struct ambit_socket value = { .flags = (__u16)flags };

	return set_storage(storage_map_fd, fd, &value) ? ambit_fail(call, "bpf(socket storage)") : 0;
}

static int set_number(int fd, int level, int name, __u32 value)
{
	return setsockopt(fd, level, name, &value, sizeof(value));
}

/* What an application asked of its socket, on the socket that stands for it beyond. What it did not ask stays as it is. */
int ambit_socket_ask(int fd, const struct ambit_asked *asked, char *call)
{
	int domain;
	socklen_t size = sizeof(domain);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size))
		return ambit_fail(call, "getsockopt(SO_DOMAIN)");
	/* Keepalive is on in any case; where the application left a number open, or wants none, it is the agent's own. */
	if (set_number(fd, IPPROTO_TCP, TCP_KEEPINTVL,
		       asked->keep_alive && asked->keep_interval_s ? asked->keep_interval_s :
								     KEEPALIVE_INTERVAL_S))
		return ambit_fail(call, "setsockopt(TCP_KEEPINTVL)");
	if (set_number(fd, IPPROTO_TCP, TCP_KEEPCNT,
		       asked->keep_alive && asked->keep_probes ? asked->keep_probes : KEEPALIVE_PROBES))
		return ambit_fail(call, "setsockopt(TCP_KEEPCNT)");
	if (set_number(fd, IPPROTO_TCP, TCP_KEEPIDLE,
		       asked->keep_alive && asked->keep_idle_s ? asked->keep_idle_s : KEEPALIVE_IDLE_S))
		return ambit_fail(call, "setsockopt(TCP_KEEPIDLE)");
	if (set_number(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, asked->user_timeout_ms))
		return ambit_fail(call, "setsockopt(TCP_USER_TIMEOUT)");
	if (asked->traffic_class &&
	    (domain == AF_INET6 ? set_number(fd, IPPROTO_IPV6, IPV6_TCLASS, asked->traffic_class) :
				 set_number(fd, IPPROTO_IP, IP_TOS, asked->traffic_class)))
		return ambit_fail(call, "setsockopt(traffic class)");
	return 0;
}

/* Writes the cookie of the socket's namespace: never reused while the kernel runs. */
int ambit_socket_netns_cookie(int fd, __u64 *cookie, char *call)
{
	socklen_t size = sizeof(*cookie);

	return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &size) ?
		       ambit_fail(call, "getsockopt(SO_NETNS_COOKIE)") : 0;
}
