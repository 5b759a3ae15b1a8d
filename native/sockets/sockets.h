/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP sockets of a data-plane thread, without an object of Node's for each: one epoll instance, which libuv watches as one
 * descriptor, and a small struct per connection. What happens on a turn is told to JavaScript in one call (addon.c); two
 * sockets that are joined (pump.c) exchange their bytes without it.
 */
#ifndef AMBIT_SOCKETS_H
#define AMBIT_SOCKETS_H

#define NAPI_VERSION 9
#include <node_api.h>
#include <uv.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What an object is now. */
enum kind {
	KIND_DEAD,	 /* over; its memory stays until the end of the turn */
	KIND_LISTENER,
	KIND_CONNECTING,
	KIND_CONNECTED,	 /* nothing is read before its owner has decided what it is to be */
	KIND_STREAM,	 /* read and written by JavaScript */
	KIND_PUMP,	 /* two sockets, joined */
};

/* What JavaScript is told; mirrored by native/socket-addon.ts. */
enum told {
	TOLD_ACCEPTED = 1,	/* a: the descriptor */
	TOLD_ACCEPT_FAILED,	/* a: errno */
	TOLD_CONNECTED,		/* a: errno, or 0 */
	TOLD_READ,		/* a: where in the arena, b: how many bytes */
	TOLD_ENDED,		/* the peer sent its FIN */
	TOLD_WRITABLE,		/* there is room again after a write that was taken in part */
	TOLD_BROKEN,		/* a: errno; all that could be read was told before */
	TOLD_OVER,		/* of a pump; a: enum end */
};

/* How a pump came to its end: of those that apply, the first; mirrored by mesh/relay/socket-engine.ts. */
enum end {
	END_OK,
	END_DOWNSTREAM_RESET,
	END_UPSTREAM_RESET,
	END_CUT,
};

/* A pump's sides. */
#define UPSTREAM 0
#define DOWNSTREAM 1

struct side {
	int fd;			/* -1: closed */
	bool is_registered;
	bool is_readable;	/* as far as we know: reading may still say that it is not */
	bool is_writable;
	bool has_more;		/* a short read does not mean that all was read: FIN, reset or urgent bytes follow */
	bool has_ended;		/* its FIN was read */
	bool is_shut;		/* it was sent ours */
	bool is_paused;		/* of a stream: JavaScript wants no more for now */
	bool wants_room;	/* of a stream: JavaScript waits for room */
	bool is_over;		/* of a stream: its break was told */
	int broken;		/* of a stream: errno of the write that failed; what came before is read yet */
	uint32_t last_words;	/* of a stream: bytes read since */
	uint8_t *held;		/* of a pump, and under TLS sealed: bytes for it that the kernel did not take */
	size_t held_from;
	size_t held_to;
	uint64_t read;		/* bytes read of it */
};

/* In which queue for the timer an object waits. */
enum wait {
	WAIT_NONE,
	WAIT_FLUSH,		/* a reset that follows the bytes before it */
	WAIT_HALF,		/* half closed: its peer is to be asked whether it is there */
	WAITS,
};

struct secure;

struct object {
	uint32_t id;
	uint8_t kind;
	uint8_t end;		/* of a pump: enum end */
	bool is_dying;		/* of a pump: over, but for bytes that go before the reset */
	uint8_t wait;
	uint64_t due;		/* by the loop's clock, milliseconds */
	struct object *previous;
	struct object *next;
	struct secure *secure;	/* of a stream under TLS (tls.c), whose descriptor is Node's */
	struct side sides[2];
};

struct queue {
	struct object *first;
	struct object *last;
};

/* The table's entry of an id. */
struct place {
	struct object *object;
	uint32_t generation;	/* told to epoll: an event of a former object means nothing */
	uint32_t next_free;
};

/* Of what a peer had said before it reset the connection. An answer is short. As in mesh/relay/last-words.ts. */
#define MOST_LAST_WORDS (64 * 1024)

#define ARENA_BYTES (256 * 1024)
#define SCRATCH_BYTES (128 * 1024)
#define RECORDS 512
#define RECORD_NUMBERS 4

struct loop {
	napi_env env;
	napi_ref callback;
	napi_ref arena_ref;
	napi_ref records_ref;
	napi_async_context context;
	napi_async_cleanup_hook_handle cleanup;
	uv_poll_t poll;
	uv_timer_t timer;
	int open_handles;
	int epoll_fd;
	int spare_fd;		/* given up for a moment to turn callers away when there is no other */
	bool is_closing;
	struct place *places;
	uint32_t place_count;
	uint32_t first_free;
	uint32_t alive;
	struct object *dead;
	struct queue queues[WAITS];
	uint8_t *arena;
	size_t arena_used;
	double *records;
	size_t record_count;
	uint8_t *out;		/* of TLS: sealed, to be sent in this call */
	size_t out_used;
	size_t out_size;
	size_t sealed_from;	/* of TLS: what was read into scratch in this call, and is not opened */
	size_t sealed_to;
	uint8_t scratch[SCRATCH_BYTES];
};

/* loop.c */
int loop_start(struct loop *loop, uv_loop_t *uv);
void loop_stop(struct loop *loop);
struct object *loop_add(struct loop *loop, enum kind kind, int fd);
struct object *loop_find(struct loop *loop, uint32_t id);
void loop_remove(struct loop *loop, struct object *object);
void loop_bury(struct loop *loop);
int loop_watch(struct loop *loop, struct object *object, int index);
void loop_look_again(struct loop *loop, struct object *object, int index);
void loop_wait(struct loop *loop, struct object *object, enum wait wait);
void loop_wait_no_more(struct loop *loop, struct object *object);
void loop_tell(struct loop *loop, enum told told, uint32_t id, double a, double b);

/* addon.c */
void addon_tell(struct loop *loop);
void addon_stopped(struct loop *loop);

/* listener.c */
void listener_ready(struct loop *loop, struct object *object);

/* side.c */
void side_close(struct side *side);
void side_reset(struct side *side);
void side_ask_peer(const struct side *side);
size_t side_held(const struct side *side);
bool side_hold(struct side *side, const uint8_t *bytes, size_t length);
ssize_t side_give(struct side *side, const uint8_t *bytes, size_t length);
int side_flush(struct side *side);

/* stream.c */
void stream_broken(struct loop *loop, struct object *object, int error);
void connecting_ready(struct loop *loop, struct object *object);
void stream_ready(struct loop *loop, struct object *object, uint32_t events);
long stream_write(struct loop *loop, struct object *object, const uint8_t *bytes, size_t length);
int stream_end(struct loop *loop, struct object *object);

/* tls.c */
void tls_prepare(void);
uint32_t tls_take_made(void);
int64_t tls_adopt(struct loop *loop, int fd, uint32_t number, const uint8_t *finished, size_t length);
void tls_release(struct loop *loop, struct object *object);
const char *tls_fault(const struct object *object);
void tls_read_some(struct loop *loop, struct object *object);
long tls_write(struct loop *loop, struct object *object, const uint8_t *bytes, size_t length);
bool tls_flush(struct loop *loop, struct object *object);
int tls_end(struct loop *loop, struct object *object);

/* pump.c */
void pump_advance(struct loop *loop, struct object *object, int index, uint32_t events);
bool pump_cut(struct loop *loop, struct object *object, bool is_now);
void pump_flush_is_late(struct loop *loop, struct object *object);

#endif /* AMBIT_SOCKETS_H */
