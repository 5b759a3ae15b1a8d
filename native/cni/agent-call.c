// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "agent-call.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* How long to wait before asking a listener with a full queue again. */
#define BUSY_WAIT_MS 10

long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits for the events; false at the deadline. An error or hang-up counts as an event: the next call tells. */
static bool wait_for(int fd, short events, long long deadline_ms)
{
	for (;;) {
		struct pollfd poller = { .fd = fd, .events = events };
		long long left = deadline_ms - now_ms();
		int ready;

		if (left <= 0)
			return false;
		ready = poll(&poller, 1, (int)left);
		if (ready > 0)
			return true;
		if (ready < 0 && errno != EINTR)
			return false;
	}
}

long read_until_end(int fd, char *buffer, size_t size, long long deadline_ms)
{
	size_t used = 0;

	for (;;) {
		char probe;
		bool is_full = used == size;
		ssize_t got;

		if (!wait_for(fd, POLLIN, deadline_ms))
			return -1;
		got = read(fd, is_full ? &probe : buffer + used, is_full ? 1 : size - used);
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (got < 0)
			return -1;
		if (got == 0)
			return (long)used;
		if (is_full)
			return -2;
		used += (size_t)got;
	}
}

static const char *send_all(int fd, const char *data, size_t length, long long deadline_ms)
{
	while (length > 0) {
		ssize_t sent = send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent > 0) {
			data += sent;
			length -= (size_t)sent;
		} else if (errno == EAGAIN) {
			if (!wait_for(fd, POLLOUT, deadline_ms))
				return "the agent did not take the request in time";
		} else if (errno != EINTR) {
			return "the agent closed the connection before it had the request";
		}
	}
	return NULL;
}

static const char *receive_exactly(int fd, char *out, size_t length, long long deadline_ms)
{
	while (length > 0) {
		ssize_t got = recv(fd, out, length, MSG_DONTWAIT);

		if (got > 0) {
			out += got;
			length -= (size_t)got;
		} else if (got == 0) {
			return "the agent closed the connection without a whole answer";
		} else if (errno == EAGAIN) {
			if (!wait_for(fd, POLLIN, deadline_ms))
				return "the agent did not answer in time";
		} else if (errno != EINTR) {
			return "the connection to the agent broke";
		}
	}
	return NULL;
}

static const char *connect_agent(int fd, const char *socket_path, long long deadline_ms)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct ucred peer;
	socklen_t length = sizeof(peer);

	if (strlen(socket_path) >= sizeof(address.sun_path))
		return "the path of the agent's socket is longer than 107 bytes";
	strcpy(address.sun_path, socket_path);
	while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		struct timespec pause = { .tv_nsec = BUSY_WAIT_MS * 1000000L };

		if (errno == ENOENT || errno == ECONNREFUSED)
			return "the agent is not running on this node, or not yet";
		if (errno != EAGAIN && errno != EINTR)
			return strerror(errno);
		if (now_ms() >= deadline_ms)
			return "the agent is too busy to take the connection";
		nanosleep(&pause, NULL);
	}
	/* Whoever may make files in that directory must not be able to answer in the agent's place. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		return strerror(errno);
	if (peer.uid != 0 && peer.uid != geteuid())
		return "the socket is not served by root";
	return NULL;
}

static const char *exchange(int fd, const char *socket_path, struct span request,
			    long long deadline_ms, char *buffer, size_t size, struct span *reply)
{
	unsigned char header[4] = {
		(unsigned char)(request.length >> 24),
		(unsigned char)(request.length >> 16),
		(unsigned char)(request.length >> 8),
		(unsigned char)request.length,
	};
	const char *problem = connect_agent(fd, socket_path, deadline_ms);

	if (!problem)
		problem = send_all(fd, (const char *)header, sizeof(header), deadline_ms);
	if (!problem)
		problem = send_all(fd, request.start, request.length, deadline_ms);
	if (!problem)
		problem = receive_exactly(fd, (char *)header, sizeof(header), deadline_ms);
	if (problem)
		return problem;
	reply->start = buffer;
	reply->length = (size_t)header[0] << 24 | (size_t)header[1] << 16 | (size_t)header[2] << 8 |
			(size_t)header[3];
	if (reply->length > size)
		return "the agent's answer is too long";
	return receive_exactly(fd, buffer, reply->length, deadline_ms);
}

const char *agent_call(const char *socket_path, struct span request, unsigned int timeout_ms,
		       char *buffer, size_t size, struct span *reply)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const char *problem;

	if (fd < 0)
		return strerror(errno);
	problem = exchange(fd, socket_path, request, now_ms() + timeout_ms, buffer, size, reply);
	close(fd);
	return problem;
}
