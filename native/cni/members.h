/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent wrote down for the time it is away: the namespaces that have, or may have, pods in the mesh. A JSON
 * object with `version` 1 and a list `namespaces`; the mirror of agent/cni/members-file.ts.
 */
#ifndef AMBIT_CNI_MEMBERS_H
#define AMBIT_CNI_MEMBERS_H

#include "json.h"

/* 10,000 names of 63 letters are 660 KiB. */
#define LARGEST_MEMBERS (4 * 1024 * 1024)

struct members {
	/* Why nothing can be told by it, for people; empty when all is well. */
	char problem[160];
	struct span namespaces;
	/* Seconds since the agent last confirmed it; -1 when the file is not to be trusted. */
	long long age_s;
};

/*
 * Reads the file into the buffer, which must outlive *out. Only a regular file that root owns and nobody else may
 * write is believed, and only as a whole.
 */
void members_read(const char *path, char *buffer, size_t size, struct members *out);

/* Whether the namespace is listed, of a file without a problem. */
bool members_have(const struct members *members, const char *name);

#endif
