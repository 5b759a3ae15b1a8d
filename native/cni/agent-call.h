/* SPDX-License-Identifier: Apache-2.0 */
/* One question to the agent over its Unix socket: a length (32 bit, big endian) and JSON, both ways. */
#ifndef AMBIT_CNI_AGENT_CALL_H
#define AMBIT_CNI_AGENT_CALL_H

#include "json.h"

/*
 * Sends the request and waits for the whole reply, until the deadline. Returns NULL and the reply in *reply
 * (bytes of the given buffer), or what went wrong, for people.
 */
const char *agent_call(const char *socket_path, struct span request, unsigned int timeout_ms,
		       char *buffer, size_t size, struct span *reply);

/* Milliseconds of the monotonic clock. */
long long now_ms(void);

/* Reads what is there until end of file or deadline; the length, -1 on error or deadline, -2 when it does not fit. */
long read_until_end(int fd, char *buffer, size_t size, long long deadline_ms);

#endif
