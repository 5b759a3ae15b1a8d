// SPDX-License-Identifier: Apache-2.0
/*
 * Says when addresses, devices, routes or rules of a namespace change. Node's event loop cannot wait for a netlink socket,
 * so one thread does for all of them, and writes the number of each that has something to say into a stream that Node can
 * read. A socket that has spoken is silent until it is armed again: a pod that changes its routes without end costs the
 * agent no more than the agent chooses to look.
 */
#define _GNU_SOURCE
#include "netns.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/types.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define GROUP(name) (1u << (RTNLGRP_##name - 1))
#define GROUPS                                                                            \
	(GROUP(LINK) | GROUP(IPV4_IFADDR) | GROUP(IPV6_IFADDR) | GROUP(IPV4_ROUTE) |      \
	 GROUP(IPV6_ROUTE) | GROUP(IPV4_RULE) | GROUP(IPV6_RULE))

/* What is said is not read, only that something was: a few messages of room, and what is beyond is lost without harm. */
#define RECEIVE_ROOM 4096
/* Messages taken out at once; what is left makes the socket speak again. */
#define MOST_DRAINED 256
#define THREAD_STACK 65536
#define MOST_EVENTS 64
/* The number under which the thread watches its own stream: its other end is closed when the watch is to end. */
#define END_KEY 0xffffffffu

struct watch {
	int epoll_fd;
	int report_fd;
};

static void *watch_all(void *argument)
{
	struct watch *watch = argument;
	struct epoll_event events[MOST_EVENTS];
	int count, i;

	for (;;) {
		count = epoll_wait(watch->epoll_fd, events, MOST_EVENTS, -1);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			break;
		for (i = 0; i < count; i++) {
			__u32 key = events[i].data.u32;

			if (key == END_KEY ||
			    send(watch->report_fd, &key, sizeof(key), MSG_NOSIGNAL) != sizeof(key))
				goto end;
		}
	}
end:
	close(watch->epoll_fd);
	close(watch->report_fd);
	free(watch);
	return NULL;
}

static int start_thread(struct watch *watch)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;
	int failed;

	failed = pthread_attr_init(&attributes);
	if (failed)
		return failed;
	pthread_attr_setstacksize(&attributes, THREAD_STACK);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	/* Signals are for Node's own threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	failed = pthread_create(&thread, &attributes, watch_all, watch);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return failed;
}

static int open_watch(struct watch *watch, int *read_fd)
{
	struct epoll_event end = { .events = EPOLLRDHUP, .data.u32 = END_KEY };
	int ends[2];

	watch->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (watch->epoll_fd < 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) {
		close(watch->epoll_fd);
		return -1;
	}
	watch->report_fd = ends[1];
	*read_fd = ends[0];
	errno = epoll_ctl(watch->epoll_fd, EPOLL_CTL_ADD, ends[1], &end) ? errno : start_thread(watch);
	if (!errno)
		return 0;
	close(watch->epoll_fd);
	close(ends[0]);
	close(ends[1]);
	return -1;
}

/*
 * Starts the thread. Gives the epoll fd that sockets are added to, and in `read_fd` the stream's end to read from. Closing
 * that ends the thread, which closes the rest.
 */
int ambit_watch_start(int *read_fd, char *call)
{
	struct watch *watch = malloc(sizeof(*watch));
	int epoll_fd;

	if (!watch)
		return ambit_fail(call, "malloc");
	if (open_watch(watch, read_fd)) {
		epoll_fd = ambit_fail(call, "start of the watch");
		free(watch);
		return epoll_fd;
	}
	return watch->epoll_fd;
}

/* Watches the namespace of a netlink socket under a number. The watch ends when the socket is closed. */
int ambit_watch_add(int epoll_fd, int fd, __u32 key, char *call)
{
	struct sockaddr_nl groups = { .nl_family = AF_NETLINK, .nl_groups = GROUPS };
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT, .data.u32 = key };
	int room = RECEIVE_ROOM;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)))
		return ambit_fail(call, "setsockopt(SO_RCVBUF)");
	if (bind(fd, (struct sockaddr *)&groups, sizeof(groups)))
		return ambit_fail(call, "bind(rtnetlink groups)");
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event))
		return ambit_fail(call, "epoll_ctl");
	return 0;
}

/* Forgets what was said until now, and lets the socket speak again. To be called before looking, not after. */
int ambit_watch_rearm(int epoll_fd, int fd, __u32 key, char *call)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT, .data.u32 = key };
	char message[512];
	int i;

	for (i = 0; i < MOST_DRAINED; i++)
		if (recv(fd, message, sizeof(message), MSG_DONTWAIT) < 0 && errno != ENOBUFS)
			break;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event))
		return ambit_fail(call, "epoll_ctl");
	return 0;
}
