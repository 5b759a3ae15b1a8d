// SPDX-License-Identifier: Apache-2.0
/* /proc/sys/net shows the namespace of the thread that opens it, so a sysctl is written from inside. */
#define _GNU_SOURCE
#include "netns.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int exchange(const char *path, const char *value, char *old, int old_size, char *call)
{
	ssize_t length;
	int result = 0, fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return ambit_fail(call, "open(sysctl)");
	length = pread(fd, old, (size_t)old_size - 1, 0);
	if (length < 0) {
		result = ambit_fail(call, "read(sysctl)");
	} else {
		while (length > 0 && old[length - 1] == '\n')
			length--;
		old[length] = '\0';
		if (strcmp(old, value) && pwrite(fd, value, strlen(value), 0) < 0)
			result = ambit_fail(call, "write(sysctl)");
	}
	close(fd);
	return result;
}

/* Writes `value` in the namespace, and puts the former value into `old`. */
int ambit_netns_sysctl(int netns_fd, int home_fd, const char *path,
		       const char *value, char *old, int old_size, char *call)
{
	int result = ambit_netns_enter(netns_fd, call);

	if (result)
		return result;
	result = exchange(path, value, old, old_size, call);
	ambit_netns_leave(home_fd);
	return result;
}
