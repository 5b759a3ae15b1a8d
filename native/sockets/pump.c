// SPDX-License-Identifier: Apache-2.0
/*
 * Two sockets, joined: bytes, half-close, resets and backpressure both ways, as if there were nothing in between. An idle pair keeps no
 * buffer: what is read is written at once, and only what the kernel does not take is held, while no more is read.
 */
#define _GNU_SOURCE
#include "sockets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* One direction's, a turn: all others have theirs before its next. */
#define MOST_MOVED (4 * SCRATCH_BYTES)

static void over(struct loop *loop, struct object *object)
{
	if (object->kind == KIND_DEAD)
		return;
	/* Before it is told: a held-up loop could tell at once, and bury. The record has the id, which is not free before the turn is over. */
	loop_remove(loop, object);
	loop_tell(loop, TOLD_OVER, object->id, object->end, 0);
}

/* The reset of what is left, after the bytes that came before it. */
static void die(struct loop *loop, struct object *object)
{
	int i;

	object->is_dying = true;
	for (i = 0; i < 2; i++)
		if (object->sides[i].fd >= 0 && !object->sides[i].held)
			side_reset(&object->sides[i]);
	if (object->sides[0].fd < 0 && object->sides[1].fd < 0)
		over(loop, object);
	else if (object->wait != WAIT_FLUSH)
		loop_wait(loop, object, WAIT_FLUSH);
}

/* A side is gone: the other is told the same way. */
static void broken(struct loop *loop, struct object *object, int index)
{
	if (object->end == END_OK)
		object->end = index == UPSTREAM ? END_UPSTREAM_RESET : END_DOWNSTREAM_RESET;
	side_close(&object->sides[index]);
	die(loop, object);
}

/*
 * The kernel takes no more for this side. What its peer had said before it went is read yet: the answer of a server that does not
 * wait for the end of a request.
 */
static void refused(struct loop *loop, struct object *object, int index)
{
	struct side *from = &object->sides[index], *to = &object->sides[1 - index];
	size_t words = 0;
	ssize_t got, sent;

	while (words < MOST_LAST_WORDS && !from->has_ended && to->fd >= 0 && !to->is_shut) {
		got = recv(from->fd, loop->scratch, MOST_LAST_WORDS - words, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		words += (size_t)got;
		from->read += (uint64_t)got;
		sent = to->held ? 0 : side_give(to, loop->scratch, (size_t)got);
		if (sent < 0 ||
		    (sent < got && !side_hold(to, loop->scratch + sent, (size_t)(got - sent))))
			break;
	}
	broken(loop, object, index);
}

/* The source said FIN, and all before it was given on. */
static void ended(struct loop *loop, struct object *object, int index)
{
	struct side *from = &object->sides[index], *to = &object->sides[1 - index];

	from->has_ended = true;
	from->is_readable = false;
	to->is_shut = true;
	if (from->is_shut) {
		/* The other direction was over before: closing says FIN as well. */
		side_close(&object->sides[0]);
		side_close(&object->sides[1]);
		return over(loop, object);
	}
	/* Where it fails the socket has broken, which its next event says. */
	shutdown(to->fd, SHUT_WR);
	loop_wait(loop, object, WAIT_HALF);
}

/* Moves what there is in one direction; false when the object is no more what it was. */
static bool move(struct loop *loop, struct object *object, int index)
{
	struct side *from = &object->sides[index], *to = &object->sides[1 - index];
	size_t moved = 0;
	ssize_t got, sent;

	if (side_flush(to) < 0) {
		refused(loop, object, 1 - index);
		return false;
	}
	while (from->is_readable && !from->has_ended && !to->held) {
		if (moved >= MOST_MOVED) {
			loop_look_again(loop, object, index);
			return true;
		}
		got = recv(from->fd, loop->scratch, SCRATCH_BYTES, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN) {
			from->is_readable = false;
			from->has_more = false;
			return true;
		}
		if (got < 0) {
			broken(loop, object, index);
			return false;
		}
		if (got == 0) {
			ended(loop, object, index);
			return object->kind == KIND_PUMP && !object->is_dying;
		}
		moved += (size_t)got;
		from->read += (uint64_t)got;
		sent = side_give(to, loop->scratch, (size_t)got);
		if (sent < 0) {
			refused(loop, object, 1 - index);
			return false;
		}
		if (sent < got && !side_hold(to, loop->scratch + sent, (size_t)(got - sent))) {
			pump_cut(loop, object, true);
			over(loop, object);
			return false;
		}
		if (got < SCRATCH_BYTES && !from->has_more)
			from->is_readable = false;
	}
	return true;
}

static void flush_last(struct loop *loop, struct object *object)
{
	int i;

	for (i = 0; i < 2; i++)
		if (object->sides[i].fd >= 0 && side_flush(&object->sides[i]) < 0)
			side_close(&object->sides[i]);
	die(loop, object);
}

void pump_advance(struct loop *loop, struct object *object, int index, uint32_t events)
{
	/* All of it was read, and yet it has something to say: the peer is gone. */
	bool is_gone = object->sides[index].has_ended && (events & (EPOLLERR | EPOLLHUP));

	if (object->is_dying)
		return flush_last(loop, object);
	if (is_gone)
		return broken(loop, object, index);
	if (move(loop, object, UPSTREAM))
		move(loop, object, DOWNSTREAM);
}

/* Ends it with a reset of both; whether it is over already. Nobody waits for what is held when `is_now`. */
bool pump_cut(struct loop *loop, struct object *object, bool is_now)
{
	int i;

	if (object->end == END_OK)
		object->end = END_CUT;
	object->is_dying = true;
	for (i = 0; i < 2; i++)
		if (is_now || !object->sides[i].held)
			side_reset(&object->sides[i]);
	if (object->sides[0].fd >= 0 || object->sides[1].fd >= 0) {
		if (object->wait != WAIT_FLUSH)
			loop_wait(loop, object, WAIT_FLUSH);
		return false;
	}
	return true;
}

void pump_flush_is_late(struct loop *loop, struct object *object)
{
	side_reset(&object->sides[0]);
	side_reset(&object->sides[1]);
	over(loop, object);
}
