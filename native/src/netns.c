// SPDX-License-Identifier: Apache-2.0
/*
 * setns() for the length of one call. A namespace belongs to a thread, so this never runs on the process's main
 * thread: its /proc/self is what the rest of the program takes for "home".
 */
#define _GNU_SOURCE
#include "netns.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int ambit_fail(char *call, const char *name)
{
	int saved = errno;

	if (call)
		snprintf(call, AMBIT_CALL_NAME_SIZE, "%s", name);
	return -saved;
}

/* Asked once per connection, so the kernel is asked once per thread. */
static bool is_main_thread(void)
{
	static __thread enum { UNKNOWN, MAIN, OTHER } thread;

	if (thread == UNKNOWN)
		thread = gettid() == getpid() ? MAIN : OTHER;
	return thread == MAIN;
}

int ambit_netns_enter(int netns_fd, char *call)
{
	if (is_main_thread()) {
		errno = EDEADLK;
		return ambit_fail(call, "setns on the main thread");
	}
	if (setns(netns_fd, CLONE_NEWNET))
		return ambit_fail(call, "setns");
	return 0;
}

void ambit_netns_leave(int home_fd)
{
	if (!setns(home_fd, CLONE_NEWNET))
		return;
	fprintf(stderr,
		"ambit: cannot return to the home network namespace: %s. Ending the process: this thread would go on in a pod's namespace.\n",
		strerror(errno));
	abort();
}

/* A new, empty network namespace; gives an fd that keeps it. For probing what the kernel can do. */
int ambit_netns_create(int home_fd, char *call)
{
	int fd;

	if (is_main_thread()) {
		errno = EDEADLK;
		return ambit_fail(call, "unshare on the main thread");
	}
	if (unshare(CLONE_NEWNET))
		return ambit_fail(call, "unshare(CLONE_NEWNET)");
	fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fd = ambit_fail(call, "open(/proc/thread-self/ns/net)");
	ambit_netns_leave(home_fd);
	return fd;
}
