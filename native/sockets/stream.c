// SPDX-License-Identifier: Apache-2.0
/* One socket: connecting it, and reading and writing it for JavaScript, which joins it to something that is no socket. */
#define _GNU_SOURCE
#include "sockets.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* A stream's, a turn: all others have theirs before its next. */
#define MOST_READ (64 * 1024)
/* With less room in the arena JavaScript is told first, and it is empty again. */
#define LEAST_ROOM (16 * 1024)

void connecting_ready(struct loop *loop, struct object *object)
{
	struct side *side = &object->sides[0];
	int error = 0;
	socklen_t length = sizeof(error);

	if (!side->is_writable)
		return;
	if (getsockopt(side->fd, SOL_SOCKET, SO_ERROR, &error, &length))
		error = errno;
	if (!error)
		object->kind = KIND_CONNECTED;
	loop_tell(loop, TOLD_CONNECTED, object->id, error, 0);
}

/* Tells that it is lost, once. */
void stream_broken(struct loop *loop, struct object *object, int error)
{
	struct side *side = &object->sides[0];

	side->is_over = true;
	loop_wait_no_more(loop, object);
	loop_tell(loop, TOLD_BROKEN, object->id, error, 0);
}

static void read_some(struct loop *loop, struct object *object)
{
	struct side *side = &object->sides[0];
	size_t room;
	ssize_t got;

	if (object->secure)
		return tls_read_some(loop, object);
	/* Room for the bytes, and for the word of them: what is told in between makes the arena another's. */
	if (ARENA_BYTES - loop->arena_used < LEAST_ROOM || loop->record_count == RECORDS) {
		addon_tell(loop);
		if (object->kind != KIND_STREAM || (side->is_paused && !side->broken))
			return;
	}
	room = ARENA_BYTES - loop->arena_used;
	if (room > MOST_READ)
		room = MOST_READ;
	do {
		got = recv(side->fd, loop->arena + loop->arena_used, room, 0);
	} while (got < 0 && errno == EINTR);
	if (got > 0) {
		size_t at = loop->arena_used;

		loop->arena_used += (size_t)got;
		if (side->broken)
			side->last_words += (uint32_t)got;
		if ((size_t)got == room || side->has_more)
			loop_look_again(loop, object, 0);
		else
			side->is_readable = false;
		loop_tell(loop, TOLD_READ, object->id, (double)at, (double)got);
		return;
	}
	if (got < 0 && errno == EAGAIN && !side->broken) {
		side->is_readable = false;
		side->has_more = false;
		return;
	}
	if (side->broken || got < 0)
		return stream_broken(loop, object, side->broken ? side->broken : errno);
	side->is_readable = false;
	side->has_ended = true;
	loop_wait(loop, object, WAIT_HALF);
	loop_tell(loop, TOLD_ENDED, object->id, 0, 0);
}

void stream_ready(struct loop *loop, struct object *object, uint32_t events)
{
	struct side *side = &object->sides[0];

	if (side->is_over)
		return;
	if (side->has_ended || side->last_words >= MOST_LAST_WORDS) {
		/* All was read, and yet it has something to say: the peer is gone. */
		if (side->broken || events & (EPOLLERR | EPOLLHUP))
			return stream_broken(loop, object, side->broken ? side->broken : ECONNRESET);
	} else if (side->is_readable && (!side->is_paused || side->broken)) {
		read_some(loop, object);
	}
	if (object->kind != KIND_STREAM || !side->wants_room || !side->is_writable || side->broken)
		return;
	if (object->secure && !tls_flush(loop, object))
		return;
	side->wants_room = false;
	loop_tell(loop, TOLD_WRITABLE, object->id, 0, 0);
}

/* How many bytes the kernel took (under TLS see tls_write), or -errno; then what the peer had said is read yet, and TOLD_BROKEN follows. */
long stream_write(struct loop *loop, struct object *object, const uint8_t *bytes, size_t length)
{
	struct side *side = &object->sides[0];
	ssize_t sent;

	if (side->broken || object->kind != KIND_STREAM)
		return -EPIPE;
	if (object->secure)
		return tls_write(loop, object, bytes, length);
	sent = side_give(side, bytes, length);
	if (sent < 0) {
		side->broken = (int)-sent;
		loop_look_again(loop, object, 0);
	}
	if (sent >= 0 && (size_t)sent < length)
		side->wants_room = true;
	return sent;
}

int stream_end(struct loop *loop, struct object *object)
{
	if (object->secure)
		return tls_end(loop, object);
	object->sides[0].is_shut = true;
	return shutdown(object->sides[0].fd, SHUT_WR) ? -errno : 0;
}
