// SPDX-License-Identifier: Apache-2.0
/*
 * Loads a program of a few instructions, by the kernel's own interface: libbpf's function for it has the same name and
 * other arguments before version 0.7.
 */
#define _GNU_SOURCE
#include "netns.h"

#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Gives the program's fd, or -errno. `code` is `count` instructions (struct bpf_insn). */
int ambit_program_load(const char *name, int type, int attach_type, const void *code, __u32 count,
		       char *call)
{
	union bpf_attr attr;
	long fd;

	memset(&attr, 0, sizeof(attr));
	attr.prog_type = (__u32)type;
	attr.expected_attach_type = (__u32)attach_type;
	attr.insns = (__u64)(unsigned long)code;
	attr.insn_cnt = count;
	attr.license = (__u64)(unsigned long)"GPL";
	strncpy(attr.prog_name, name, sizeof(attr.prog_name) - 1);
	fd = syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
	return fd < 0 ? ambit_fail(call, "bpf(BPF_PROG_LOAD)") : (int)fd;
}
