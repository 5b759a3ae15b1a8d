// SPDX-License-Identifier: Apache-2.0
/*
 * The table of objects, the epoll instance that libuv watches, and the two things that need a clock. Events are edge-triggered: a
 * descriptor is registered once, and what an edge said is kept in the side until reading or writing says otherwise.
 */
#define _GNU_SOURCE
#include "sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define NONE UINT32_MAX
#define FIRST_PLACES 64
#define EVENTS 128
/* Turns of epoll_wait() within one of libuv's, when every one brings as many events as there is room for. */
#define MOST_ROUNDS 8
/* A peer that does not read must not hold a connection that is reset: ample on a path that is not stuck. As in mesh/relay/reset-socket.ts. */
#define FLUSH_MS 1000
/* Most half-closed connections are over long before, and cost no system call. As in mesh/relay/half-closed.ts. */
#define HALF_MS 5000

static const uint64_t wait_ms[WAITS] = { 0, FLUSH_MS, HALF_MS };

static void start_timer(struct loop *loop);

/* Which object and side an event of epoll is for: the generation makes one of a former object harmless. */
static uint64_t name_of(const struct loop *loop, const struct object *object, int index)
{
	return (uint64_t)loop->places[object->id].generation << 32 | object->id << 1 | (uint32_t)index;
}

struct object *loop_find(struct loop *loop, uint32_t id)
{
	struct object *object = id < loop->place_count ? loop->places[id].object : NULL;

	return object && object->kind != KIND_DEAD ? object : NULL;
}

static bool grow(struct loop *loop)
{
	uint32_t count = loop->place_count ? loop->place_count * 2 : FIRST_PLACES;
	struct place *places = realloc(loop->places, count * sizeof(*places));
	uint32_t i;

	if (!places)
		return false;
	loop->places = places;
	for (i = loop->place_count; i < count; i++)
		places[i] = (struct place){ .next_free = i + 1 < count ? i + 1 : NONE };
	loop->first_free = loop->place_count;
	loop->place_count = count;
	return true;
}

/* Gives an object with the descriptor on its first side, or NULL without memory; the descriptor is its from then on. */
struct object *loop_add(struct loop *loop, enum kind kind, int fd)
{
	struct object *object;
	struct place *place;

	if (loop->is_closing || (loop->first_free == NONE && !grow(loop)))
		return NULL;
	object = calloc(1, sizeof(*object));
	if (!object)
		return NULL;
	object->id = loop->first_free;
	object->kind = (uint8_t)kind;
	object->sides[0].fd = fd;
	object->sides[1].fd = -1;
	place = &loop->places[object->id];
	loop->first_free = place->next_free;
	place->object = object;
	if (loop->alive++ == 0)
		uv_ref((uv_handle_t *)&loop->poll);
	return object;
}

/* Its descriptors must be closed, or somebody else's. The memory goes, and the id is free, after the turn: nobody who has heard of it is misled. */
void loop_remove(struct loop *loop, struct object *object)
{
	if (object->kind == KIND_DEAD)
		return;
	loop_wait_no_more(loop, object);
	tls_release(loop, object);
	free(object->sides[0].held);
	free(object->sides[1].held);
	object->sides[0].held = object->sides[1].held = NULL;
	object->kind = KIND_DEAD;
	object->next = loop->dead;
	loop->dead = object;
	if (--loop->alive == 0 && !loop->is_closing)
		uv_unref((uv_handle_t *)&loop->poll);
}

void loop_bury(struct loop *loop)
{
	struct object *object;

	while ((object = loop->dead)) {
		struct place *place = &loop->places[object->id];

		loop->dead = object->next;
		place->object = NULL;
		place->generation++;
		place->next_free = loop->first_free;
		loop->first_free = object->id;
		free(object);
	}
}

static int control(struct loop *loop, struct object *object, int index, int operation)
{
	struct epoll_event event = {
		.events = object->kind == KIND_LISTENER ?
				  EPOLLIN :
				  EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET,
		.data.u64 = name_of(loop, object, index),
	};

	return epoll_ctl(loop->epoll_fd, operation, object->sides[index].fd, &event) ? -errno : 0;
}

int loop_watch(struct loop *loop, struct object *object, int index)
{
	int result = control(loop, object, index, EPOLL_CTL_ADD);

	object->sides[index].is_registered = result == 0;
	return result;
}

/* Has the next turn tell again what is the case now. */
void loop_look_again(struct loop *loop, struct object *object, int index)
{
	if (object->sides[index].fd >= 0)
		control(loop, object, index, EPOLL_CTL_MOD);
}

void loop_wait_no_more(struct loop *loop, struct object *object)
{
	struct queue *queue = &loop->queues[object->wait];

	if (object->wait == WAIT_NONE)
		return;
	object->wait = WAIT_NONE;
	if (object->previous)
		object->previous->next = object->next;
	else
		queue->first = object->next;
	if (object->next)
		object->next->previous = object->previous;
	else
		queue->last = object->previous;
	object->previous = object->next = NULL;
}

/* All who wait in one queue wait as long, so it is in the order of their times. */
void loop_wait(struct loop *loop, struct object *object, enum wait wait)
{
	struct queue *queue = &loop->queues[wait];

	loop_wait_no_more(loop, object);
	object->wait = (uint8_t)wait;
	object->due = uv_now(loop->poll.loop) + wait_ms[wait];
	object->previous = queue->last;
	if (queue->last)
		queue->last->next = object;
	else
		queue->first = object;
	queue->last = object;
	if (!uv_is_active((uv_handle_t *)&loop->timer) ||
	    uv_timer_get_due_in(&loop->timer) > wait_ms[wait])
		start_timer(loop);
}

static void is_due(struct loop *loop, struct object *object, enum wait wait)
{
	int i;

	loop_wait_no_more(loop, object);
	if (wait == WAIT_FLUSH)
		return pump_flush_is_late(loop, object);
	for (i = 0; i < 2; i++)
		if (object->sides[i].fd >= 0 && object->sides[i].has_ended)
			side_ask_peer(&object->sides[i]);
}

static void on_timer(uv_timer_t *timer)
{
	struct loop *loop = timer->data;
	uint64_t now = uv_now(timer->loop);
	int wait;

	for (wait = WAIT_NONE + 1; wait < WAITS; wait++)
		while (loop->queues[wait].first && loop->queues[wait].first->due <= now)
			is_due(loop, loop->queues[wait].first, (enum wait)wait);
	start_timer(loop);
	addon_tell(loop);
	loop_bury(loop);
}

static void start_timer(struct loop *loop)
{
	uint64_t now = uv_now(loop->poll.loop), due = UINT64_MAX;
	int wait;

	for (wait = WAIT_NONE + 1; wait < WAITS; wait++)
		if (loop->queues[wait].first && loop->queues[wait].first->due < due)
			due = loop->queues[wait].first->due;
	if (due == UINT64_MAX || loop->is_closing)
		return;
	uv_timer_start(&loop->timer, on_timer, due > now ? due - now : 0, 0);
	uv_unref((uv_handle_t *)&loop->timer);
}

/* Tells JavaScript of it at the end of the turn, in order. */
void loop_tell(struct loop *loop, enum told told, uint32_t id, double a, double b)
{
	double *record;

	if (loop->record_count == RECORDS)
		addon_tell(loop);
	record = loop->records + loop->record_count++ * RECORD_NUMBERS;
	record[0] = told;
	record[1] = id;
	record[2] = a;
	record[3] = b;
}

static void ready(struct loop *loop, const struct epoll_event *event)
{
	uint32_t id = (uint32_t)event->data.u64 >> 1, mask = event->events;
	int index = event->data.u64 & 1;
	struct object *object = loop_find(loop, id);
	struct side *side;

	if (!object || loop->places[id].generation != event->data.u64 >> 32)
		return;
	side = &object->sides[index];
	if (side->fd < 0)
		return;
	if (mask & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		side->is_readable = true;
	if (mask & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		side->is_writable = true;
	if (mask & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		side->has_more = true;
	switch (object->kind) {
	case KIND_LISTENER:
		return listener_ready(loop, object);
	case KIND_CONNECTING:
		return connecting_ready(loop, object);
	case KIND_STREAM:
		return stream_ready(loop, object, mask);
	case KIND_PUMP:
		return pump_advance(loop, object, index, mask);
	default: /* Kept in the side for when it is something. */
		return;
	}
}

static void on_ready(uv_poll_t *poll, int status, int what)
{
	struct loop *loop = poll->data;
	struct epoll_event events[EVENTS];
	int round, count = EVENTS, i;

	(void)what;
	if (status < 0)
		return;
	for (round = 0; round < MOST_ROUNDS && count == EVENTS && !loop->is_closing; round++) {
		count = epoll_wait(loop->epoll_fd, events, EVENTS, 0);
		for (i = 0; i < count; i++)
			ready(loop, &events[i]);
		addon_tell(loop);
		loop_bury(loop);
	}
}

int loop_start(struct loop *loop, uv_loop_t *uv)
{
	int result;

	loop->first_free = NONE;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		return -errno;
	loop->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	result = uv_poll_init(uv, &loop->poll, loop->epoll_fd);
	if (result) {
		close(loop->epoll_fd);
		return result;
	}
	uv_timer_init(uv, &loop->timer);
	loop->poll.data = loop;
	loop->timer.data = loop;
	loop->open_handles = 2;
	result = uv_poll_start(&loop->poll, UV_READABLE, on_ready);
	uv_unref((uv_handle_t *)&loop->poll);
	return result;
}

static void on_closed(uv_handle_t *handle)
{
	struct loop *loop = handle->data;

	if (--loop->open_handles > 0)
		return;
	close(loop->epoll_fd);
	if (loop->spare_fd >= 0)
		close(loop->spare_fd);
	addon_stopped(loop);
}

/* The thread ends: everything that is open is closed. */
void loop_stop(struct loop *loop)
{
	uint32_t i;

	loop->is_closing = true;
	for (i = 0; i < loop->place_count; i++) {
		struct object *object = loop->places[i].object;

		if (!object || object->kind == KIND_DEAD)
			continue;
		if (!object->secure)
			side_close(&object->sides[0]);
		side_close(&object->sides[1]);
		loop_remove(loop, object);
	}
	loop_bury(loop);
	free(loop->places);
	free(loop->out);
	loop->out = NULL;
	loop->out_size = 0;
	loop->places = NULL;
	loop->place_count = 0;
	uv_close((uv_handle_t *)&loop->poll, on_closed);
	uv_close((uv_handle_t *)&loop->timer, on_closed);
}
