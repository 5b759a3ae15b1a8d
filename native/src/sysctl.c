// SPDX-License-Identifier: Apache-2.0
/*
 * /proc/sys/net shows the namespace of the thread that opens it, so a sysctl is written from inside. Container
 * runtimes mount /proc/sys read-only in containers that are not privileged: then it is written through a procfs
 * of our own, which is mounted nowhere (CAP_SYS_ADMIN).
 */
#define _GNU_SOURCE
#include "netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char PROC[] = "/proc/";

/* Made once, and kept as long as the process. */
static int own_proc = -1;
static pthread_mutex_t own_proc_lock = PTHREAD_MUTEX_INITIALIZER;

static int mount_own_proc(void)
{
	int saved, mount = -1, context = (int)syscall(SYS_fsopen, "proc", FSOPEN_CLOEXEC);

	if (context < 0)
		return -1;
	if (!syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		mount = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
	saved = errno;
	close(context);
	errno = saved;
	return mount;
}

static int open_in_own_proc(const char *path)
{
	int proc;

	pthread_mutex_lock(&own_proc_lock);
	if (own_proc < 0)
		own_proc = mount_own_proc();
	proc = own_proc;
	pthread_mutex_unlock(&own_proc_lock);
	if (proc < 0)
		return -1;
	return openat(proc, path + sizeof(PROC) - 1, O_RDWR | O_CLOEXEC);
}

static int exchange(const char *path, const char *value, char *old, int old_size, char *call)
{
	ssize_t length;
	int result = 0, fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0 && errno == EROFS && !strncmp(path, PROC, sizeof(PROC) - 1))
		fd = open_in_own_proc(path);
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
