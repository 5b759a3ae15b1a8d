/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Just enough JSON for a CNI plugin: checks a whole text, then finds values in it as spans of the same text.
 * Nothing is allocated and nothing is copied but decoded strings, into buffers of the caller's.
 */
#ifndef AMBIT_CNI_JSON_H
#define AMBIT_CNI_JSON_H

#include <stdbool.h>
#include <stddef.h>

struct span {
	const char *start;
	size_t length;
};

/* True when the text is exactly one JSON object (RFC 8259), nested at most JSON_DEPTH deep. */
bool json_is_object(struct span text);

/* The functions below want spans out of a text that json_is_object() accepted. */

/* The value of a member; of duplicates the last, as Go and JavaScript have it. */
bool json_member(struct span object, const char *name, struct span *value);

/* Steps through an array: start with *offset = 0; false after the last item or if it is no array. */
bool json_next_item(struct span array, size_t *offset, struct span *item);

/* Decodes a string value; false if it is none, does not fit, or contains a NUL. */
bool json_string(struct span value, char *out, size_t size);

/* A non-negative integer of at most nine digits. */
bool json_unsigned(struct span value, unsigned int *out);

bool json_is_null(struct span value);
bool json_is(struct span value, char first);

#endif
