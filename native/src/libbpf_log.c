// SPDX-License-Identifier: Apache-2.0
/*
 * libbpf's print callback takes a va_list, which no FFI can read: it is formatted here into a buffer that keeps the
 * last bytes, where the verifier says why it refused. One buffer per thread, read after a failed call.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG_SIZE 65536 /* far more than the lines quoted in an error */
#define LIBBPF_DEBUG_LEVEL 2

static __thread char kept[LOG_SIZE];
static __thread size_t used;

static void keep(const char *text, size_t length)
{
	size_t drop;

	if (length >= LOG_SIZE) {
		text += length - (LOG_SIZE - 1);
		length = LOG_SIZE - 1;
	}
	if (used + length >= LOG_SIZE) {
		drop = used + length - (LOG_SIZE - 1);
		memmove(kept, kept + drop, used - drop);
		used -= drop;
	}
	memcpy(kept + used, text, length);
	used += length;
}

/* To be given to libbpf_set_print(). */
int ambit_libbpf_print(int level, const char *format, va_list arguments)
{
	char *text;
	int length;

	if (level >= LIBBPF_DEBUG_LEVEL)
		return 0;
	length = vasprintf(&text, format, arguments);
	if (length < 0)
		return length;
	keep(text, (size_t)length);
	free(text);
	return length;
}

/* Copies what this thread's calls logged since the last take, and empties the buffer. */
int ambit_libbpf_log_take(char *into, int size)
{
	size_t length = used < (size_t)size ? used : (size_t)size - 1;

	memcpy(into, kept + (used - length), length);
	into[length] = '\0';
	used = 0;
	return (int)length;
}
