// SPDX-License-Identifier: Apache-2.0
/* One descriptor: closing it, asking its peer whether it is there, and what the kernel does not take of what is written to it. */
#define _GNU_SOURCE
#include "sockets.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A peer whose kernel knows it no more is found at the next probe; a network that is away for less than 100 s does no harm. As in native/tcp-state.ts. */
#define PROBE_IDLE_S 10
#define PROBE_INTERVAL_S 10
#define PROBES 9

void side_close(struct side *side)
{
	if (side->fd >= 0)
		close(side->fd);
	side->fd = -1;
}

void side_reset(struct side *side)
{
	static const struct linger now = { .l_onoff = 1, .l_linger = 0 };

	if (side->fd >= 0)
		setsockopt(side->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	side_close(side);
}

static void set_number(int fd, int level, int name, int value)
{
	setsockopt(fd, level, name, &value, sizeof(value));
}

void side_ask_peer(const struct side *side)
{
	set_number(side->fd, IPPROTO_TCP, TCP_KEEPIDLE, PROBE_IDLE_S);
	set_number(side->fd, IPPROTO_TCP, TCP_KEEPINTVL, PROBE_INTERVAL_S);
	set_number(side->fd, IPPROTO_TCP, TCP_KEEPCNT, PROBES);
	set_number(side->fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

size_t side_held(const struct side *side)
{
	return side->held_to - side->held_from;
}

/* Keeps what the kernel did not take, behind what is held; false without memory. */
bool side_hold(struct side *side, const uint8_t *bytes, size_t length)
{
	size_t before = side_held(side);
	uint8_t *kept = malloc(before + length);

	if (!kept)
		return false;
	if (before)
		memcpy(kept, side->held + side->held_from, before);
	memcpy(kept + before, bytes, length);
	free(side->held);
	side->held = kept;
	side->held_from = 0;
	side->held_to = before + length;
	return true;
}

/* How many bytes the kernel took; -errno. */
ssize_t side_give(struct side *side, const uint8_t *bytes, size_t length)
{
	ssize_t sent;

	do {
		sent = send(side->fd, bytes, length, MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0 && errno != EAGAIN)
		return -errno;
	if (sent < 0)
		sent = 0;
	if ((size_t)sent < length)
		side->is_writable = false;
	return sent;
}

/* Writes what is held; 0 or -errno. */
int side_flush(struct side *side)
{
	ssize_t sent;

	if (!side->held || !side->is_writable)
		return 0;
	sent = side_give(side, side->held + side->held_from, side_held(side));
	if (sent < 0)
		return (int)sent;
	side->held_from += (size_t)sent;
	if (side_held(side) > 0)
		return 0;
	free(side->held);
	side->held = NULL;
	side->held_from = side->held_to = 0;
	return 0;
}
