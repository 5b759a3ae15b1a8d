// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "members.h"
#include "agent-call.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A file of the disk answers at once, or the disk is gone. */
#define READ_TIMEOUT_MS 2000
/* Longer than any name of a namespace. */
#define LONGEST_NAME 254
#define VERSION 1

static void blame(struct members *out, const char *reason)
{
	snprintf(out->problem, sizeof(out->problem), "%s", reason);
}

/* Whoever else could write the file could let pods out of the mesh, or keep all pods of a node from starting. */
static const char *distrust(const struct stat *file, size_t size)
{
	if (!S_ISREG(file->st_mode))
		return "it is no regular file";
	if (file->st_uid != 0 && file->st_uid != geteuid())
		return "it is not root's";
	if (file->st_mode & (S_IWGRP | S_IWOTH))
		return "others than root may write it";
	if ((unsigned long long)file->st_size >= size)
		return "it is larger than 4 MiB";
	return NULL;
}

static const char *parse(struct span text, struct members *out)
{
	struct span value, item;
	size_t offset = 0;
	unsigned int version;
	char name[LONGEST_NAME];

	if (!json_is_object(text))
		return "it is not one JSON object, or only half of it";
	if (!json_member(text, "version", &value) || !json_unsigned(value, &version) ||
	    version != VERSION)
		return "field version is not 1";
	if (!json_member(text, "namespaces", &out->namespaces) || !json_is(out->namespaces, '['))
		return "field namespaces is no list";
	while (json_next_item(out->namespaces, &offset, &item))
		if (!json_string(item, name, sizeof(name)) || !name[0])
			return "field namespaces has an item that is no name";
	return NULL;
}

static const char *read_open(int fd, char *buffer, size_t size, struct members *out)
{
	struct stat file;
	struct timespec now;
	const char *problem;
	long length;

	if (fstat(fd, &file) < 0)
		return strerror(errno);
	problem = distrust(&file, size);
	if (problem)
		return problem;
	clock_gettime(CLOCK_REALTIME, &now);
	/* A clock that was set back makes it as good as new. */
	out->age_s = now.tv_sec > file.st_mtim.tv_sec ? now.tv_sec - file.st_mtim.tv_sec : 0;
	length = read_until_end(fd, buffer, size, now_ms() + READ_TIMEOUT_MS);
	if (length < 0)
		return length == -2 ? "it grew while it was read" : "it cannot be read";
	return parse((struct span){ buffer, (size_t)length }, out);
}

void members_read(const char *path, char *buffer, size_t size, struct members *out)
{
	/* No link, which may lead anywhere, and no FIFO, which would block. */
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	const char *problem;

	*out = (struct members){ .age_s = -1 };
	if (fd < 0) {
		blame(out, errno == ELOOP ? "it is a symbolic link" : strerror(errno));
		return;
	}
	problem = read_open(fd, buffer, size, out);
	close(fd);
	if (problem)
		blame(out, problem);
}

bool members_have(const struct members *members, const char *name)
{
	struct span item;
	size_t offset = 0;
	char listed[LONGEST_NAME];

	while (json_next_item(members->namespaces, &offset, &item))
		if (json_string(item, listed, sizeof(listed)) && strcmp(listed, name) == 0)
			return true;
	return false;
}
