// SPDX-License-Identifier: Apache-2.0
/* What JavaScript may ask, and how it is told. The functions take numbers and give numbers: >= 0, or -errno. */
#define _GNU_SOURCE
#include "sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST_ARGUMENTS 4

static struct loop *loop_of(napi_env env)
{
	struct loop *loop = NULL;

	napi_get_instance_data(env, (void **)&loop);
	return loop;
}

static napi_value number(napi_env env, double value)
{
	napi_value result = NULL;

	napi_create_double(env, value, &result);
	return result;
}

/* Reads `count` numbers; a missing or wrong one throws. */
static bool numbers(napi_env env, napi_callback_info info, size_t count, int64_t *into)
{
	napi_value values[MOST_ARGUMENTS];
	size_t given = count, i;

	if (napi_get_cb_info(env, info, &given, values, NULL, NULL) != napi_ok)
		return false;
	for (i = 0; i < count; i++)
		if (i >= given || napi_get_value_int64(env, values[i], &into[i]) != napi_ok) {
			napi_throw_type_error(env, NULL, "a number is missing");
			return false;
		}
	return true;
}

/* The object of this id if it is of that kind, else NULL: an owner that is late asks in vain, and does no harm. */
static struct object *object_of(struct loop *loop, int64_t id, enum kind kind)
{
	struct object *object =
		loop && !loop->is_closing && id >= 0 ? loop_find(loop, (uint32_t)id) : NULL;

	return object && object->kind == kind ? object : NULL;
}

/* Calls back with how many records there are; they and the arena are free again after it. */
void addon_tell(struct loop *loop)
{
	napi_handle_scope scope;
	napi_value callback, receiver, count, error;
	bool is_thrown = false;
	size_t told = loop->record_count;

	if (told == 0 || loop->is_closing)
		return;
	if (napi_open_handle_scope(loop->env, &scope) != napi_ok)
		return;
	napi_get_reference_value(loop->env, loop->callback, &callback);
	napi_get_global(loop->env, &receiver);
	count = number(loop->env, (double)told);
	napi_make_callback(loop->env, loop->context, receiver, callback, 1, &count, NULL);
	/* As of any other event: who does not catch it ends the thread. */
	if (napi_is_exception_pending(loop->env, &is_thrown) == napi_ok && is_thrown &&
	    napi_get_and_clear_last_exception(loop->env, &error) == napi_ok)
		napi_fatal_exception(loop->env, error);
	napi_close_handle_scope(loop->env, scope);
	loop->record_count = 0;
	loop->arena_used = 0;
}

static void on_env_end(napi_async_cleanup_hook_handle handle, void *data)
{
	(void)handle;
	loop_stop(data);
}

void addon_stopped(struct loop *loop)
{
	napi_remove_async_cleanup_hook(loop->cleanup);
	free(loop);
}

/* start(callback): { arena, records }; once a thread. */
static napi_value start(napi_env env, napi_callback_info info)
{
	struct loop *loop = loop_of(env);
	uv_loop_t *uv;
	napi_value callback, result, arena, records, view, name;
	size_t given = 1;
	int failed;

	if (loop) {
		napi_throw_error(env, NULL, "started already");
		return NULL;
	}
	loop = calloc(1, sizeof(*loop));
	if (!loop || napi_get_uv_event_loop(env, &uv) != napi_ok)
		return NULL;
	loop->env = env;
	tls_prepare();
	failed = loop_start(loop, uv);
	if (failed) {
		free(loop);
		napi_throw_error(env, NULL, uv_strerror(failed));
		return NULL;
	}
	napi_get_cb_info(env, info, &given, &callback, NULL, NULL);
	napi_create_reference(env, callback, 1, &loop->callback);
	napi_create_string_utf8(env, "ambit:sockets", NAPI_AUTO_LENGTH, &name);
	napi_async_init(env, NULL, name, &loop->context);
	napi_create_buffer(env, ARENA_BYTES, (void **)&loop->arena, &arena);
	napi_create_reference(env, arena, 1, &loop->arena_ref);
	napi_create_arraybuffer(env, RECORDS * RECORD_NUMBERS * sizeof(double),
				(void **)&loop->records, &records);
	napi_create_typedarray(env, napi_float64_array, RECORDS * RECORD_NUMBERS, records, 0, &view);
	napi_create_reference(env, view, 1, &loop->records_ref);
	napi_create_object(env, &result);
	napi_set_named_property(env, result, "arena", arena);
	napi_set_named_property(env, result, "records", view);
	napi_set_instance_data(env, loop, NULL, NULL);
	napi_add_async_cleanup_hook(env, on_env_end, loop, &loop->cleanup);
	return result;
}

/* Makes an object of a descriptor and has epoll watch it: its id. The descriptor stays the caller's where it fails. */
static int64_t watched(struct loop *loop, enum kind kind, int fd)
{
	struct object *object;
	int result;

	if (!loop)
		return -ESRCH;
	object = loop_add(loop, kind, fd);
	if (!object)
		return -ENOMEM;
	result = loop_watch(loop, object, 0);
	if (result == 0)
		return object->id;
	object->sides[0].fd = -1;
	loop_remove(loop, object);
	return result;
}

/* listen(fd): id. It listens already. */
static napi_value listen_on(napi_env env, napi_callback_info info)
{
	int64_t fd;

	if (!numbers(env, info, 1, &fd))
		return NULL;
	return number(env, (double)watched(loop_of(env), KIND_LISTENER, (int)fd));
}

/* stream(fd): id. Of a connected socket. */
static napi_value stream(napi_env env, napi_callback_info info)
{
	int64_t fd;

	if (!numbers(env, info, 1, &fd))
		return NULL;
	return number(env, (double)watched(loop_of(env), KIND_STREAM, (int)fd));
}

/* The address in `text` with the port; its size, or 0 where it is none. */
static socklen_t address_of(struct sockaddr_storage *into, const char *text, uint16_t port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)into;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)into;

	memset(into, 0, sizeof(*into));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		return sizeof(*v6);
	}
	return 0;
}

/* connect(fd, address, port): id. The descriptor stays the caller's where it fails at once. */
static napi_value connect_to(napi_env env, napi_callback_info info)
{
	napi_value values[3];
	size_t given = 3;
	char text[INET6_ADDRSTRLEN];
	int32_t fd;
	uint32_t port;
	struct sockaddr_storage address;
	socklen_t size;

	if (napi_get_cb_info(env, info, &given, values, NULL, NULL) != napi_ok || given < 3 ||
	    napi_get_value_int32(env, values[0], &fd) != napi_ok ||
	    napi_get_value_string_latin1(env, values[1], text, sizeof(text), NULL) != napi_ok ||
	    napi_get_value_uint32(env, values[2], &port) != napi_ok) {
		napi_throw_type_error(env, NULL, "connect(fd, address, port)");
		return NULL;
	}
	size = address_of(&address, text, (uint16_t)port);
	if (size == 0)
		return number(env, -EAFNOSUPPORT);
	if (connect(fd, (struct sockaddr *)&address, size) && errno != EINPROGRESS)
		return number(env, -errno);
	return number(env, (double)watched(loop_of(env), KIND_CONNECTING, fd));
}

/* join(id, fd): 0. The connected upstream of that id and the downstream of that descriptor are a pump from now on. */
static napi_value join(napi_env env, napi_callback_info info)
{
	int64_t arguments[2];
	struct loop *loop = loop_of(env);
	struct object *object;
	int result;

	if (!numbers(env, info, 2, arguments))
		return NULL;
	object = object_of(loop, arguments[0], KIND_CONNECTED);
	if (!object)
		return number(env, -ESRCH);
	object->sides[DOWNSTREAM].fd = (int)arguments[1];
	/* Its first event says that it is writable, and is that of both directions. */
	result = loop_watch(loop, object, DOWNSTREAM);
	if (result)
		object->sides[DOWNSTREAM].fd = -1;
	else
		object->kind = KIND_PUMP;
	return number(env, result);
}

/* take(id): 0. The connected socket of that id is a stream from now on. */
static napi_value take(napi_env env, napi_callback_info info)
{
	int64_t id;
	struct loop *loop = loop_of(env);
	struct object *object;

	if (!numbers(env, info, 1, &id))
		return NULL;
	object = object_of(loop, id, KIND_CONNECTED);
	if (!object)
		return number(env, -ESRCH);
	object->kind = KIND_STREAM;
	loop_look_again(loop, object, 0);
	return number(env, 0);
}

/* bytes(id, side): read of that side of a pump. */
static napi_value bytes(napi_env env, napi_callback_info info)
{
	int64_t arguments[2];
	struct loop *loop = loop_of(env);
	struct object *object;

	if (!numbers(env, info, 2, arguments))
		return NULL;
	/* Also of one that is over, until the turn ends. */
	object = loop && arguments[0] >= 0 && arguments[0] < loop->place_count ?
			 loop->places[arguments[0]].object : NULL;
	return number(env, object ? (double)object->sides[arguments[1] & 1].read : -ESRCH);
}

/* cut(id, isNow): 1 when the pump is over with it, else 0: then it is told. */
static napi_value cut(napi_env env, napi_callback_info info)
{
	int64_t arguments[2];
	struct loop *loop = loop_of(env);
	struct object *object;
	bool is_over;

	if (!numbers(env, info, 2, arguments))
		return NULL;
	object = object_of(loop, arguments[0], KIND_PUMP);
	if (!object)
		return number(env, 0);
	is_over = pump_cut(loop, object, arguments[1] != 0);
	if (is_over)
		loop_remove(loop, object);
	return number(env, is_over);
}

/* write(id, bytes, from, to): how many the kernel took. */
static napi_value write_to(napi_env env, napi_callback_info info)
{
	napi_value values[4];
	size_t given = 4, length = 0;
	int64_t id, from, to;
	void *data;
	struct loop *loop = loop_of(env);
	struct object *object;

	if (napi_get_cb_info(env, info, &given, values, NULL, NULL) != napi_ok || given < 4 ||
	    napi_get_value_int64(env, values[0], &id) != napi_ok ||
	    napi_get_typedarray_info(env, values[1], NULL, &length, &data, NULL, NULL) != napi_ok ||
	    napi_get_value_int64(env, values[2], &from) != napi_ok ||
	    napi_get_value_int64(env, values[3], &to) != napi_ok || from < 0 || to < from ||
	    (size_t)to > length) {
		napi_throw_type_error(env, NULL, "write(id, bytes, from, to)");
		return NULL;
	}
	object = object_of(loop, id, KIND_STREAM);
	if (!object)
		return number(env, -EPIPE);
	return number(env, (double)stream_write(loop, object, (uint8_t *)data + from,
						(size_t)(to - from)));
}

/* end(id): 0 when the FIN is sent after all that was written. */
static napi_value end(napi_env env, napi_callback_info info)
{
	int64_t id;
	struct object *object;

	if (!numbers(env, info, 1, &id))
		return NULL;
	object = object_of(loop_of(env), id, KIND_STREAM);
	return number(env, object ? stream_end(loop_of(env), object) : -EPIPE);
}

/* pause(id, isPaused) */
static napi_value pause_it(napi_env env, napi_callback_info info)
{
	int64_t arguments[2];
	struct loop *loop = loop_of(env);
	struct object *object;

	if (!numbers(env, info, 2, arguments))
		return NULL;
	object = object_of(loop, arguments[0], KIND_STREAM);
	if (!object)
		return NULL;
	object->sides[0].is_paused = arguments[1] != 0;
	if (!object->sides[0].is_paused && object->sides[0].is_readable)
		loop_look_again(loop, object, 0);
	return NULL;
}

/*
 * close(id, isReset): what it is of is over, and nothing is told any more. Not of a pump. A descriptor that was adopted stays the caller's;
 * isReset says of it that it is closed already.
 */
static napi_value close_it(napi_env env, napi_callback_info info)
{
	int64_t arguments[2];
	struct loop *loop = loop_of(env);
	struct object *object;

	if (!numbers(env, info, 2, arguments))
		return NULL;
	object = loop && !loop->is_closing && arguments[0] >= 0 ?
			 loop_find(loop, (uint32_t)arguments[0]) : NULL;
	if (!object || object->kind == KIND_PUMP)
		return NULL;
	if (object->secure && arguments[1])
		object->sides[0].fd = -1; /* its number may be another's by now */
	else if (!object->secure && arguments[1])
		side_reset(&object->sides[0]);
	else if (!object->secure)
		side_close(&object->sides[0]);
	loop_remove(loop, object);
	return NULL;
}

/* closeFd(fd, isReset): of a socket that is of no object. */
static napi_value close_fd(napi_env env, napi_callback_info info)
{
	int64_t arguments[2];
	struct side side;

	if (!numbers(env, info, 2, arguments))
		return NULL;
	side = (struct side){ .fd = (int)arguments[0] };
	if (arguments[1])
		side_reset(&side);
	else
		side_close(&side);
	return NULL;
}

/* takeMade(): the number of the TLS connection that the thread has made last, whoever made it; 0: none since this was asked. */
static napi_value take_made(napi_env env, napi_callback_info info)
{
	(void)info;
	return number(env, tls_take_made());
}

/* adopt(fd, number, finished): id. The bytes of a TLS connection that stands and has sent this Finished; the descriptor stays the caller's. */
static napi_value adopt(napi_env env, napi_callback_info info)
{
	napi_value values[3];
	size_t given = 3, length = 0;
	int32_t fd;
	uint32_t made;
	void *finished = NULL;
	struct loop *loop = loop_of(env);

	if (napi_get_cb_info(env, info, &given, values, NULL, NULL) != napi_ok || given < 3 ||
	    napi_get_value_int32(env, values[0], &fd) != napi_ok ||
	    napi_get_value_uint32(env, values[1], &made) != napi_ok ||
	    napi_get_typedarray_info(env, values[2], NULL, &length, &finished, NULL, NULL) != napi_ok) {
		napi_throw_type_error(env, NULL, "adopt(fd, number, finished)");
		return NULL;
	}
	if (!loop || loop->is_closing)
		return number(env, -ESRCH);
	return number(env, (double)tls_adopt(loop, fd, made, finished, length));
}

/* fault(id): why TLS has failed, in OpenSSL's words. */
static napi_value fault(napi_env env, napi_callback_info info)
{
	int64_t id;
	struct object *object;
	napi_value result = NULL;

	if (!numbers(env, info, 1, &id))
		return NULL;
	object = object_of(loop_of(env), id, KIND_STREAM);
	napi_create_string_latin1(env, object ? tls_fault(object) : "", NAPI_AUTO_LENGTH, &result);
	return result;
}

/* address(fd, isRemote): "port address", or undefined where the socket has none any more. */
static napi_value address(napi_env env, napi_callback_info info)
{
	int64_t arguments[2];
	struct sockaddr_storage found;
	socklen_t size = sizeof(found);
	char text[INET6_ADDRSTRLEN + 8];
	char name[INET6_ADDRSTRLEN];
	const struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&found;
	const struct sockaddr_in *v4 = (struct sockaddr_in *)&found;
	napi_value result = NULL;
	int failed, length;

	if (!numbers(env, info, 2, arguments))
		return NULL;
	failed = arguments[1] ?
			 getpeername((int)arguments[0], (struct sockaddr *)&found, &size) :
			 getsockname((int)arguments[0], (struct sockaddr *)&found, &size);
	if (failed || (found.ss_family != AF_INET && found.ss_family != AF_INET6))
		return NULL;
	if (found.ss_family == AF_INET)
		inet_ntop(AF_INET, &v4->sin_addr, name, sizeof(name));
	else
		inet_ntop(AF_INET6, &v6->sin6_addr, name, sizeof(name));
	length = snprintf(text, sizeof(text), "%u %s",
			  ntohs(found.ss_family == AF_INET ? v4->sin_port : v6->sin6_port), name);
	napi_create_string_latin1(env, text, (size_t)length, &result);
	return result;
}

NAPI_MODULE_INIT()
{
	static const napi_property_descriptor functions[] = {
		{ "start", NULL, start, NULL, NULL, NULL, napi_default, NULL },
		{ "listen", NULL, listen_on, NULL, NULL, NULL, napi_default, NULL },
		{ "stream", NULL, stream, NULL, NULL, NULL, napi_default, NULL },
		{ "connect", NULL, connect_to, NULL, NULL, NULL, napi_default, NULL },
		{ "join", NULL, join, NULL, NULL, NULL, napi_default, NULL },
		{ "take", NULL, take, NULL, NULL, NULL, napi_default, NULL },
		{ "bytes", NULL, bytes, NULL, NULL, NULL, napi_default, NULL },
		{ "cut", NULL, cut, NULL, NULL, NULL, napi_default, NULL },
		{ "write", NULL, write_to, NULL, NULL, NULL, napi_default, NULL },
		{ "end", NULL, end, NULL, NULL, NULL, napi_default, NULL },
		{ "pause", NULL, pause_it, NULL, NULL, NULL, napi_default, NULL },
		{ "close", NULL, close_it, NULL, NULL, NULL, napi_default, NULL },
		{ "closeFd", NULL, close_fd, NULL, NULL, NULL, napi_default, NULL },
		{ "takeMade", NULL, take_made, NULL, NULL, NULL, napi_default, NULL },
		{ "adopt", NULL, adopt, NULL, NULL, NULL, napi_default, NULL },
		{ "fault", NULL, fault, NULL, NULL, NULL, napi_default, NULL },
		{ "address", NULL, address, NULL, NULL, NULL, napi_default, NULL },
	};

	napi_define_properties(env, exports, sizeof(functions) / sizeof(functions[0]), functions);
	return exports;
}
