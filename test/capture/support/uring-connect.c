// SPDX-License-Identifier: Apache-2.0
/*
 * Connects by io_uring (IORING_OP_CONNECT, optionally with a kernel thread polling the queue) and prints what the
 * other end says. For a test: no library, no error recovery; exit code 1 with the failed step on stderr.
 */
#include <arpa/inet.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void must(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	struct io_uring_params params = {};
	struct io_uring_sqe *entry;
	struct io_uring_cqe *done;
	unsigned int *tail, *array, *head;
	char text[512], *ring, *completions;
	ssize_t length;
	int fd, uring;

	must(argc == 4, "usage: uring-connect ADDRESS PORT poll|plain");
	must(inet_pton(AF_INET, argv[1], &to.sin_addr) == 1, "inet_pton");
	to.sin_port = htons((unsigned short)atoi(argv[2]));
	if (!strcmp(argv[3], "poll"))
		params.flags = IORING_SETUP_SQPOLL;
	uring = (int)syscall(SYS_io_uring_setup, 4, &params);
	must(uring >= 0, "io_uring_setup");
	ring = mmap(0, params.sq_off.array + params.sq_entries * sizeof(unsigned int),
		    PROT_READ | PROT_WRITE, MAP_SHARED, uring, IORING_OFF_SQ_RING);
	completions = mmap(0, params.cq_off.cqes + params.cq_entries * sizeof(*done),
			   PROT_READ | PROT_WRITE, MAP_SHARED, uring, IORING_OFF_CQ_RING);
	entry = mmap(0, params.sq_entries * sizeof(*entry), PROT_READ | PROT_WRITE, MAP_SHARED, uring,
		     IORING_OFF_SQES);
	must(ring != MAP_FAILED && completions != MAP_FAILED && entry != MAP_FAILED, "mmap");
	fd = socket(AF_INET, SOCK_STREAM, 0);
	must(fd >= 0, "socket");
	memset(entry, 0, sizeof(*entry));
	entry->opcode = IORING_OP_CONNECT;
	entry->fd = fd;
	entry->addr = (unsigned long)&to;
	entry->off = sizeof(to);
	array = (unsigned int *)(ring + params.sq_off.array);
	tail = (unsigned int *)(ring + params.sq_off.tail);
	array[0] = 0;
	__atomic_store_n(tail, 1, __ATOMIC_RELEASE);
	must(syscall(SYS_io_uring_enter, uring, 1, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_SQ_WAKEUP, 0,
		     0) >= 0, "io_uring_enter");
	head = (unsigned int *)(completions + params.cq_off.tail);
	while (!__atomic_load_n(head, __ATOMIC_ACQUIRE))
		syscall(SYS_io_uring_enter, uring, 0, 1, IORING_ENTER_GETEVENTS, 0, 0);
	done = (struct io_uring_cqe *)(completions + params.cq_off.cqes);
	if (done->res) {
		fprintf(stderr, "connect: %s\n", strerror(-done->res));
		return 1;
	}
	while ((length = read(fd, text, sizeof(text))) > 0)
		must(write(1, text, (size_t)length) == length, "write");
	return 0;
}
