// SPDX-License-Identifier: Apache-2.0
/* Accepts connections of a listening socket. Nothing is read of them, and epoll does not hear of them, before it is decided what they are to be. */
#define _GNU_SOURCE
#include "sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

/* A turn's: those who are served already wait no longer than these take. */
#define MOST_ACCEPTED 16

/* Without a descriptor the caller would wait in the queue, and be told of for ever: it is turned away. */
static bool turn_away(struct loop *loop, int listener)
{
	int fd;

	if (loop->spare_fd < 0)
		return false;
	close(loop->spare_fd);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	loop->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return fd >= 0;
}

void listener_ready(struct loop *loop, struct object *object)
{
	int listener = object->sides[0].fd, count, fd;

	for (count = 0; count < MOST_ACCEPTED; count++) {
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			loop_tell(loop, TOLD_ACCEPTED, object->id, fd, 0);
			if (object->kind == KIND_DEAD)
				return;
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if ((errno == EMFILE || errno == ENFILE) && turn_away(loop, listener))
			continue;
		if (errno != EAGAIN)
			loop_tell(loop, TOLD_ACCEPT_FAILED, object->id, errno, 0);
		return;
	}
}
