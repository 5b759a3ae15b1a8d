// SPDX-License-Identifier: Apache-2.0
/* The scanner behind json.h: a recursive descent over bytes that only ever moves forward within its bounds. */
#include "json.h"

#include <stdint.h>
#include <string.h>

/* CNI configurations nest five deep or so; the bound keeps a hostile text from using up the stack. */
#define JSON_DEPTH 64
/* Longer names than this are none of those we look for. */
#define LONGEST_NAME 64

struct cursor {
	const char *at;
	const char *end;
};

static bool scan_value(struct cursor *c, int depth);

static void skip_space(struct cursor *c)
{
	while (c->at < c->end &&
	       (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
		c->at++;
}

static bool take(struct cursor *c, char wanted)
{
	if (c->at == c->end || *c->at != wanted)
		return false;
	c->at++;
	return true;
}

static bool is_digit(char byte)
{
	return byte >= '0' && byte <= '9';
}

static int hex_value(char byte)
{
	if (is_digit(byte))
		return byte - '0';
	if (byte >= 'a' && byte <= 'f')
		return byte - 'a' + 10;
	if (byte >= 'A' && byte <= 'F')
		return byte - 'A' + 10;
	return -1;
}

static bool scan_hex4(struct cursor *c, uint32_t *unit)
{
	*unit = 0;
	for (int i = 0; i < 4; i++) {
		int digit = c->at < c->end ? hex_value(*c->at) : -1;

		if (digit < 0)
			return false;
		*unit = *unit * 16 + (uint32_t)digit;
		c->at++;
	}
	return true;
}

static bool scan_string(struct cursor *c)
{
	if (!take(c, '"'))
		return false;
	while (c->at < c->end) {
		unsigned char byte = (unsigned char)*c->at++;
		uint32_t unit;

		if (byte == '"')
			return true;
		if (byte < 0x20)
			return false;
		if (byte != '\\')
			continue;
		if (c->at == c->end)
			return false;
		byte = (unsigned char)*c->at++;
		if (byte == 'u') {
			if (!scan_hex4(c, &unit))
				return false;
		} else if (byte == '\0' || !strchr("\"\\/bfnrt", byte)) {
			return false;
		}
	}
	return false;
}

static bool scan_digits(struct cursor *c)
{
	const char *start = c->at;

	while (c->at < c->end && is_digit(*c->at))
		c->at++;
	return c->at > start;
}

static bool scan_number(struct cursor *c)
{
	take(c, '-');
	if (!take(c, '0') && !scan_digits(c))
		return false;
	if (take(c, '.') && !scan_digits(c))
		return false;
	if (take(c, 'e') || take(c, 'E')) {
		if (!take(c, '+'))
			take(c, '-');
		return scan_digits(c);
	}
	return true;
}

static bool scan_word(struct cursor *c, const char *word)
{
	size_t length = strlen(word);

	if ((size_t)(c->end - c->at) < length || memcmp(c->at, word, length) != 0)
		return false;
	c->at += length;
	return true;
}

static bool scan_object(struct cursor *c, int depth)
{
	c->at++;
	skip_space(c);
	if (take(c, '}'))
		return true;
	for (;;) {
		skip_space(c);
		if (!scan_string(c))
			return false;
		skip_space(c);
		if (!take(c, ':') || !scan_value(c, depth + 1))
			return false;
		if (take(c, '}'))
			return true;
		if (!take(c, ','))
			return false;
	}
}

static bool scan_array(struct cursor *c, int depth)
{
	c->at++;
	skip_space(c);
	if (take(c, ']'))
		return true;
	for (;;) {
		if (!scan_value(c, depth + 1))
			return false;
		if (take(c, ']'))
			return true;
		if (!take(c, ','))
			return false;
	}
}

/* Leaves the cursor behind the value and the space after it. */
static bool scan_value(struct cursor *c, int depth)
{
	bool valid;

	skip_space(c);
	if (depth > JSON_DEPTH || c->at == c->end)
		return false;
	switch (*c->at) {
	case '{':
		valid = scan_object(c, depth);
		break;
	case '[':
		valid = scan_array(c, depth);
		break;
	case '"':
		valid = scan_string(c);
		break;
	case 't':
		valid = scan_word(c, "true");
		break;
	case 'f':
		valid = scan_word(c, "false");
		break;
	case 'n':
		valid = scan_word(c, "null");
		break;
	default:
		valid = scan_number(c);
	}
	skip_space(c);
	return valid;
}

/* A value without the space around it. */
static bool take_value(struct cursor *c, struct span *value)
{
	const char *end;

	skip_space(c);
	value->start = c->at;
	if (!scan_value(c, 0))
		return false;
	end = c->at;
	while (end > value->start && strchr(" \t\n\r", end[-1]))
		end--;
	value->length = (size_t)(end - value->start);
	return true;
}

bool json_is(struct span value, char first)
{
	return value.length > 0 && value.start[0] == first;
}

bool json_is_null(struct span value)
{
	return json_is(value, 'n');
}

bool json_is_object(struct span text)
{
	struct cursor c = { text.start, text.start + text.length };

	skip_space(&c);
	if (c.at == c.end || *c.at != '{')
		return false;
	return scan_value(&c, 0) && c.at == c.end;
}

bool json_member(struct span object, const char *name, struct span *value)
{
	struct cursor c = { object.start, object.start + object.length };
	bool found = false;

	skip_space(&c);
	if (!take(&c, '{'))
		return false;
	for (;;) {
		struct span key, item;
		char decoded[LONGEST_NAME];

		skip_space(&c);
		key.start = c.at;
		if (!scan_string(&c))
			return found;
		key.length = (size_t)(c.at - key.start);
		skip_space(&c);
		if (!take(&c, ':') || !take_value(&c, &item))
			return found;
		if (json_string(key, decoded, sizeof(decoded)) && strcmp(decoded, name) == 0) {
			*value = item;
			found = true;
		}
		if (!take(&c, ','))
			return found;
	}
}

bool json_next_item(struct span array, size_t *offset, struct span *item)
{
	struct cursor c = { array.start + *offset, array.start + array.length };

	if (*offset == 0 && !take(&c, '['))
		return false;
	skip_space(&c);
	if (c.at == c.end || *c.at == ']' || !take_value(&c, item))
		return false;
	take(&c, ',');
	*offset = (size_t)(c.at - array.start);
	return true;
}

static size_t encode_utf8(uint32_t point, char *out)
{
	if (point < 0x80) {
		out[0] = (char)point;
		return 1;
	}
	if (point < 0x800) {
		out[0] = (char)(0xc0 | (point >> 6));
		out[1] = (char)(0x80 | (point & 0x3f));
		return 2;
	}
	if (point < 0x10000) {
		out[0] = (char)(0xe0 | (point >> 12));
		out[1] = (char)(0x80 | ((point >> 6) & 0x3f));
		out[2] = (char)(0x80 | (point & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | (point >> 18));
	out[1] = (char)(0x80 | ((point >> 12) & 0x3f));
	out[2] = (char)(0x80 | ((point >> 6) & 0x3f));
	out[3] = (char)(0x80 | (point & 0x3f));
	return 4;
}

/* A \u escape, of which the \u is taken; two of them for what lies beyond the basic plane. */
static bool decode_unicode(struct cursor *c, uint32_t *point)
{
	uint32_t low;

	if (!scan_hex4(c, point))
		return false;
	if (*point < 0xd800 || *point > 0xdfff)
		return *point != 0;
	if (*point > 0xdbff || !take(c, '\\') || !take(c, 'u') || !scan_hex4(c, &low) ||
	    low < 0xdc00 || low > 0xdfff)
		return false;
	*point = 0x10000 + ((*point - 0xd800) << 10) + (low - 0xdc00);
	return true;
}

bool json_string(struct span value, char *out, size_t size)
{
	static const char escaped[] = "\"\\/bfnrt";
	static const char meant[] = "\"\\/\b\f\n\r\t";
	struct cursor c = { value.start, value.start + value.length };
	size_t used = 0;

	if (value.length < 2 || !take(&c, '"'))
		return false;
	while (c.at < c.end && *c.at != '"') {
		char encoded[4];
		size_t length = 1;

		encoded[0] = *c.at++;
		if (encoded[0] == '\\') {
			const char *escape = c.at < c.end && *c.at ? strchr(escaped, *c.at) : NULL;
			uint32_t point;

			if (escape) {
				encoded[0] = meant[escape - escaped];
				c.at++;
			} else if (take(&c, 'u') && decode_unicode(&c, &point)) {
				length = encode_utf8(point, encoded);
			} else {
				return false;
			}
		}
		if (used + length >= size)
			return false;
		memcpy(out + used, encoded, length);
		used += length;
	}
	if (used >= size)
		return false;
	out[used] = '\0';
	return true;
}

bool json_unsigned(struct span value, unsigned int *out)
{
	unsigned int number = 0;

	if (value.length == 0 || value.length > 9)
		return false;
	for (size_t i = 0; i < value.length; i++) {
		if (!is_digit(value.start[i]))
			return false;
		number = number * 10 + (unsigned int)(value.start[i] - '0');
	}
	*out = number;
	return true;
}
