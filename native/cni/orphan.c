// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "orphan.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool begins_with(const char *text, const char *beginning)
{
	return strncmp(text, beginning, strlen(beginning)) == 0;
}

bool agent_has_no_pod(const char *directory, const char *agent_prefix, const char *pod_namespace,
		      const char *pod_name)
{
	char own_prefix[600];
	bool has_own = false;
	bool has_agent = false;
	bool is_whole;
	struct dirent *entry;
	DIR *logs;
	int length = snprintf(own_prefix, sizeof(own_prefix), "%s_%s_", pod_namespace, pod_name);

	/* An empty beginning would be everybody's. */
	if (!agent_prefix[0] || length < 0 || (size_t)length >= sizeof(own_prefix))
		return false;
	logs = opendir(directory);
	if (!logs)
		return false;
	errno = 0;
	while ((entry = readdir(logs))) {
		has_own |= begins_with(entry->d_name, own_prefix);
		has_agent |= begins_with(entry->d_name, agent_prefix);
	}
	is_whole = errno == 0;
	closedir(logs);
	return is_whole && has_own && !has_agent;
}
