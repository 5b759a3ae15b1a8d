// SPDX-License-Identifier: Apache-2.0
/*
 * The pages of the program's own file. Starting up touches most of its code and constants, running a small part. The kernel has them all
 * mapped until it is short of memory; unmapped they cost the process nothing, stay in the page cache, and come back when they are touched.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

static int unmap_constant_segments(struct dl_phdr_info *info, size_t size, void *failure)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	(void)size;
	for (int at = 0; at < info->dlpi_phnum; at++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[at];
		uintptr_t first, end;

		/* What may be written has pages of the process's own, which no file has: relocations, data. */
		if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W))
			continue;
		/* Whole pages alone: at its ends a segment may share one with its neighbour. */
		first = (info->dlpi_addr + segment->p_vaddr + page - 1) & ~(page - 1);
		end = (info->dlpi_addr + segment->p_vaddr + segment->p_filesz) & ~(page - 1);
		if (end > first && madvise((void *)first, end - first, MADV_DONTNEED))
			*(int *)failure = -errno;
	}
	return 1; /* The first is the program; its libraries are small beside it. */
}

/* Gives back what is mapped of the program's file and can be read again from there. Negative errno when the kernel would not. */
int ambit_image_unmap(void)
{
	int failure = 0;

	dl_iterate_phdr(unmap_constant_segments, &failure);
	return failure;
}
