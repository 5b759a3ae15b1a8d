// SPDX-License-Identifier: Apache-2.0
/*
 * TLS of connections for which Node has shaken hands. Who the peer is, by which roots, versions and ciphers, is Node's affair and has been
 * decided when a connection comes here; what is left is to seal and to open records, which OpenSSL does as before, on the same SSL. Only
 * the way between it and the socket is another one: without a stream, a request object and two callbacks for each write.
 *
 * Node keeps its socket, says who its peer is, and closes it; here its descriptor is borrowed. Nor does it forget the two BIOs that it had made.
 */
#define _GNU_SOURCE
#include "sockets.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* Read at once, sealed. Opened it is less: what one read brought fits into the arena. */
#define MOST_SEALED (64 * 1024)
/* Of a record, opened. */
#define MOST_RECORD (16 * 1024)
/*
 * Messages of the handshake that may come after it, new keys and tickets: so many, and one more for each so many bytes of what the connection is for.
 * Each costs as much as many records, and one that asks for new keys an answer.
 */
#define MOST_MESSAGES 32
#define BYTES_PER_MESSAGE (1024 * 1024)
/* Sealed, and not taken by the kernel: a write of HTTP/2's, and answers to what a peer asks that does not read. */
#define MOST_WAITING (4 * 1024 * 1024)
/* Memory for sealed records that a thread keeps. */
#define KEPT_SEALED (512 * 1024)
#define BUCKETS 256
/* Told of one connection at most: what Node had read, what came, and the end. */
#define MOST_WORDS 3

/* Every SSL of the process, by number: Node does not say which one is whose. */
struct made {
	SSL *ssl;
	uint32_t number;
	BIO *former[2];	/* of one that was adopted: Node's, to read and to write, which it points at as long as there is the SSL */
	struct made *next;
};

struct secure {
	SSL *ssl;
	BIO *way;		/* between it and the socket */
	bool reads_former;	/* what Node had read, and not opened, comes first */
	bool is_closing;	/* FIN follows what is held */
	uint64_t messages;
	uint64_t opened;	/* bytes */
	char fault[128];
};

static pthread_mutex_t made_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct made *made_by_number[BUCKETS];
static uint32_t made_count;
static _Thread_local uint32_t last_made;
static BIO_METHOD *way_method;

static void on_made(void *parent, void *unused, CRYPTO_EX_DATA *data, int index, long number, void *argument)
{
	struct made *made = calloc(1, sizeof(*made)), **bucket;

	(void)unused;
	(void)number;
	(void)argument;
	last_made = 0;
	if (!made)
		return;
	made->ssl = parent;
	pthread_mutex_lock(&made_lock);
	made->number = ++made_count ? made_count : ++made_count;
	bucket = &made_by_number[made->number % BUCKETS];
	made->next = *bucket;
	*bucket = made;
	pthread_mutex_unlock(&made_lock);
	last_made = made->number;
	CRYPTO_set_ex_data(data, index, made);
}

static void on_freed(void *parent, void *held, CRYPTO_EX_DATA *data, int index, long number, void *argument)
{
	struct made *made = held, **at;

	(void)parent;
	(void)data;
	(void)index;
	(void)number;
	(void)argument;
	if (!made)
		return;
	pthread_mutex_lock(&made_lock);
	for (at = &made_by_number[made->number % BUCKETS]; *at; at = &(*at)->next)
		if (*at == made) {
			*at = made->next;
			break;
		}
	pthread_mutex_unlock(&made_lock);
	BIO_free(made->former[0]);
	BIO_free(made->former[1]);
	free(made);
}

/* NULL: it is gone. Whoever asks is the thread that has made it, and nobody else frees it. */
static struct made *made_of(uint32_t number)
{
	struct made *made;

	pthread_mutex_lock(&made_lock);
	for (made = made_by_number[number % BUCKETS]; made && made->number != number; made = made->next)
		;
	pthread_mutex_unlock(&made_lock);
	return made;
}

/* From the thread's memory: what was read of the socket in this call. */
static int way_read(BIO *way, char *into, int length)
{
	struct loop *loop = BIO_get_data(way);
	size_t left = loop ? loop->sealed_to - loop->sealed_from : 0;

	BIO_clear_retry_flags(way);
	if (left == 0) {
		if (loop)
			BIO_set_retry_read(way);
		return -1;
	}
	if ((size_t)length > left)
		length = (int)left;
	memcpy(into, loop->scratch + loop->sealed_from, (size_t)length);
	loop->sealed_from += (size_t)length;
	return length;
}

/* Into the thread's memory, from where it is sent when all is sealed. */
static int way_write(BIO *way, const char *from, int length)
{
	struct loop *loop = BIO_get_data(way);

	BIO_clear_retry_flags(way);
	if (!loop)
		return -1;
	if (loop->out_used + (size_t)length > loop->out_size) {
		size_t size = loop->out_size ? loop->out_size : MOST_SEALED;
		uint8_t *larger;

		while (size < loop->out_used + (size_t)length)
			size *= 2;
		larger = realloc(loop->out, size);
		if (!larger)
			return -1;
		loop->out = larger;
		loop->out_size = size;
	}
	memcpy(loop->out + loop->out_used, from, (size_t)length);
	loop->out_used += (size_t)length;
	return length;
}

static long way_control(BIO *way, int command, long number, void *pointer)
{
	(void)way;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH;
}

static void prepare(void)
{
	/* Headers of another OpenSSL than Node's: it is left alone. */
	if (OPENSSL_version_major() != OPENSSL_VERSION_MAJOR ||
	    SSL_get_ex_new_index(0, NULL, on_made, NULL, on_freed) < 0)
		return;
	way_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "ambit");
	BIO_meth_set_read(way_method, way_read);
	BIO_meth_set_write(way_method, way_write);
	BIO_meth_set_ctrl(way_method, way_control);
}

/* From now on every SSL has a number. */
void tls_prepare(void)
{
	pthread_once(&once, prepare);
}

/* The number of the one that the thread has made last, once; 0: none since it was asked. */
uint32_t tls_take_made(void)
{
	uint32_t number = last_made;

	last_made = 0;
	return number;
}

/* Whether it is the connection that has sent this Finished, which no two have alike: what is sealed for one peer must never go to another. */
static bool is_that(const SSL *ssl, const uint8_t *finished, size_t length)
{
	uint8_t sent[EVP_MAX_MD_SIZE];

	return length > 0 && length <= sizeof(sent) && SSL_get_finished(ssl, sent, sizeof(sent)) == length &&
	       CRYPTO_memcmp(sent, finished, length) == 0;
}

static void on_message(int is_sent, int version, int type, const void *bytes, size_t length, SSL *ssl, void *secure)
{
	(void)version;
	(void)bytes;
	(void)length;
	(void)ssl;
	if (!is_sent && type == SSL3_RT_HANDSHAKE)
		((struct secure *)secure)->messages++;
}

/*
 * Takes the bytes of a connection over from Node, which has shaken hands, and neither reads nor has anything left to write: its id. -ENOTCONN: there is
 * no such connection; -EAGAIN: Node has something to write.
 */
int64_t tls_adopt(struct loop *loop, int fd, uint32_t number, const uint8_t *finished, size_t length)
{
	struct made *made = made_of(number);
	SSL *ssl = made ? made->ssl : NULL;
	struct secure *secure;
	struct object *object;
	int result;

	if (!ssl || made->former[0] || !SSL_is_init_finished(ssl) || !is_that(ssl, finished, length))
		return -ENOTCONN;
	if (BIO_ctrl_pending(SSL_get_wbio(ssl)) > 0)
		return -EAGAIN;
	secure = calloc(1, sizeof(*secure));
	if (!secure)
		return -ENOMEM;
	secure->way = BIO_new(way_method);
	object = secure->way ? loop_add(loop, KIND_STREAM, fd) : NULL;
	if (!object) {
		BIO_free(secure->way);
		free(secure);
		return -ENOMEM;
	}
	result = loop_watch(loop, object, 0);
	if (result) {
		BIO_free(secure->way);
		free(secure);
		object->sides[0].fd = -1;
		loop_remove(loop, object);
		return result;
	}
	BIO_set_data(secure->way, loop);
	BIO_set_init(secure->way, 1);
	SSL_up_ref(ssl);
	secure->ssl = ssl;
	made->former[0] = SSL_get_rbio(ssl);
	made->former[1] = SSL_get_wbio(ssl);
	BIO_up_ref(made->former[0]);
	BIO_up_ref(made->former[1]);
	secure->reads_former = true;
	/* Node's callbacks are told of sessions and handshakes in the middle of a read of its own, and this is none. */
	SSL_set_info_callback(ssl, NULL);
	SSL_CTX_set_session_cache_mode(SSL_get_SSL_CTX(ssl), SSL_SESS_CACHE_OFF);
	SSL_set_mode(ssl, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	SSL_set_msg_callback(ssl, on_message);
	SSL_set_msg_callback_arg(ssl, secure);
	BIO_up_ref(secure->way);
	SSL_set0_wbio(ssl, secure->way);
	object->secure = secure;
	/* Also what Node has left, whether anything comes after it or not: the first event looks. */
	object->sides[0].is_readable = true;
	return object->id;
}

/* Gives the connection back, of which Node may only close the socket now. */
void tls_release(struct loop *loop, struct object *object)
{
	struct secure *secure = object->secure;
	struct side *side = &object->sides[0];

	if (!secure)
		return;
	object->secure = NULL;
	if (side->fd >= 0)
		epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, side->fd, NULL);
	side->fd = -1;
	BIO_set_data(secure->way, NULL);
	SSL_set_msg_callback(secure->ssl, NULL);
	SSL_free(secure->ssl);
	BIO_free(secure->way);
	free(secure);
}

const char *tls_fault(const struct object *object)
{
	return object->secure ? object->secure->fault : "";
}

static int note_fault(struct secure *secure)
{
	unsigned long error = ERR_peek_last_error();
	const char *reason = error ? ERR_reason_error_string(error) : NULL;

	snprintf(secure->fault, sizeof(secure->fault), "%s", reason ? reason : "no reason is known");
	ERR_clear_error();
	return EPROTO;
}

/* Sends what was sealed: 0 when the kernel has all of it, -EAGAIN when the rest is held, or another -errno. */
static int send_sealed(struct loop *loop, struct side *side)
{
	size_t length = loop->out_used;
	ssize_t sent = side->held ? 0 : side_give(side, loop->out, length);
	bool is_kept = sent >= 0 && ((size_t)sent == length ||
				     side_hold(side, loop->out + sent, length - (size_t)sent));

	loop->out_used = 0;
	if (loop->out_size > KEPT_SEALED) {
		free(loop->out);
		loop->out = NULL;
		loop->out_size = 0;
	}
	if (!is_kept)
		return sent < 0 ? (int)sent : -ENOMEM;
	if (!side->held)
		return 0;
	side->wants_room = true;
	return -EAGAIN;
}

/* More to open: 1. Nothing now, or no more at all, which is told: 0. */
static int fetch(struct loop *loop, struct object *object)
{
	struct side *side = &object->sides[0];
	struct secure *secure = object->secure;
	ssize_t got;

	if (secure->reads_former) {
		secure->reads_former = false;
		BIO_up_ref(secure->way);
		SSL_set0_rbio(secure->ssl, secure->way);
	}
	if (!side->is_readable)
		return 0;
	do {
		got = recv(side->fd, loop->scratch, MOST_SEALED, 0);
	} while (got < 0 && errno == EINTR);
	if (got > 0) {
		loop->sealed_from = 0;
		loop->sealed_to = (size_t)got;
		if (got < MOST_SEALED && !side->has_more)
			side->is_readable = false;
		return 1;
	}
	side->is_readable = false;
	if (got == 0) {
		side->has_ended = true;
		loop_tell(loop, TOLD_ENDED, object->id, 0, 0);
	} else if (errno == EAGAIN) {
		side->has_more = false;
	} else {
		stream_broken(loop, object, errno);
	}
	return 0;
}

/* Whether the peer has us work at TLS itself, which is then its fault. */
static bool is_too_busy(const struct side *side, struct secure *secure)
{
	const char *fault = NULL;

	if (secure->messages > MOST_MESSAGES + secure->opened / BYTES_PER_MESSAGE)
		fault = "too many messages after the handshake";
	else if (side_held(side) > MOST_WAITING)
		fault = "the peer asks and does not read";
	if (fault)
		snprintf(secure->fault, sizeof(secure->fault), "%s", fault);
	return fault != NULL;
}

/* Tells of what was opened since `from`, and sends what opening it had answered: alerts, and new keys for ones that were asked for. */
static void opened(struct loop *loop, struct object *object, size_t from)
{
	if (loop->out_used)
		send_sealed(loop, &object->sides[0]);
	if (loop->arena_used > from)
		loop_tell(loop, TOLD_READ, object->id, (double)from, (double)(loop->arena_used - from));
}

/* Opens what came: what Node had read, and what one read of the socket brings. */
void tls_read_some(struct loop *loop, struct object *object)
{
	struct secure *secure = object->secure;
	struct side *side = &object->sides[0];
	bool has_fetched = false;
	int got, error;
	size_t from;

	/* Room for all of it, and for the words of it: what is told in between makes the arena another's. */
	if (ARENA_BYTES - loop->arena_used < 2 * MOST_SEALED || loop->record_count + MOST_WORDS > RECORDS) {
		addon_tell(loop);
		if (object->kind != KIND_STREAM || side->is_paused)
			return;
	}
	from = loop->arena_used;
	loop->sealed_from = loop->sealed_to = 0;
	loop->out_used = 0;
	do {
		/* The room is ample: what is opened is less than what was sealed. */
		ERR_clear_error();
		while ((got = SSL_read(secure->ssl, loop->arena + loop->arena_used,
				       (int)(ARENA_BYTES - loop->arena_used))) > 0)
			loop->arena_used += (size_t)got;
		error = SSL_get_error(secure->ssl, got);
		secure->opened += loop->arena_used - from;
		opened(loop, object, from);
		from = loop->arena_used;
		if (error == SSL_ERROR_ZERO_RETURN) {
			side->has_ended = true;
			loop_tell(loop, TOLD_ENDED, object->id, 0, 0);
			return;
		}
		if (error != SSL_ERROR_WANT_READ)
			return stream_broken(loop, object, note_fault(secure));
		if (is_too_busy(side, secure))
			return stream_broken(loop, object, EPROTO);
		if (has_fetched) {
			if (side->is_readable)
				loop_look_again(loop, object, 0);
			return;
		}
		has_fetched = true;
	} while (fetch(loop, object));
}

/*
 * Whether the kernel has all of it: 1. 0: the rest waits, and TOLD_WRITABLE follows, before which nothing but last words should be written. Or
 * -errno: the connection is lost.
 */
long tls_write(struct loop *loop, struct object *object, const uint8_t *bytes, size_t length)
{
	struct side *side = &object->sides[0];
	struct secure *secure = object->secure;
	size_t done = 0;
	int result;

	if (side->is_over || secure->is_closing)
		return -EPIPE;
	loop->out_used = 0;
	while (done < length) {
		size_t part = length - done < MOST_RECORD ? length - done : MOST_RECORD;
		int sealed;

		ERR_clear_error();
		sealed = SSL_write(secure->ssl, bytes + done, (int)part);
		if (sealed <= 0)
			return -note_fault(secure);
		done += (size_t)sealed;
	}
	result = send_sealed(loop, side);
	if (result == -EAGAIN)
		return 0;
	return result ? result : 1;
}

/* There is room: whether the kernel has all that was held. */
bool tls_flush(struct loop *loop, struct object *object)
{
	struct side *side = &object->sides[0];
	int result = side_flush(side);

	if (result)
		stream_broken(loop, object, -result);
	if (result || side->held)
		return false;
	if (object->secure->is_closing)
		shutdown(side->fd, SHUT_WR);
	return true;
}

/* close_notify, and then the FIN, after all that was written. */
int tls_end(struct loop *loop, struct object *object)
{
	struct secure *secure = object->secure;
	struct side *side = &object->sides[0];
	int result;

	if (secure->is_closing || side->is_over)
		return -EPIPE;
	loop->out_used = 0;
	ERR_clear_error();
	SSL_shutdown(secure->ssl);
	ERR_clear_error();
	result = send_sealed(loop, side);
	secure->is_closing = true;
	if (result == -EAGAIN)
		return 0;
	return result ? result : shutdown(side->fd, SHUT_WR) ? -errno : 0;
}
