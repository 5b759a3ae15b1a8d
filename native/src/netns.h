/* SPDX-License-Identifier: Apache-2.0 */
/* Entering another network namespace for the length of one call, and saying which call failed. */
#ifndef AMBIT_NETNS_H
#define AMBIT_NETNS_H

#define AMBIT_CALL_NAME_SIZE 48

/*
 * Every exported function returns a value >= 0, or -errno with the name of the failed call in `call`
 * (AMBIT_CALL_NAME_SIZE bytes).
 */
int ambit_fail(char *call, const char *name);

/* Returns 0, or -errno. Refuses on the process's main thread. */
int ambit_netns_enter(int netns_fd, char *call);

/* Ends the process if the thread cannot go home: it would serve one pod's work in another pod's namespace. */
void ambit_netns_leave(int home_fd);

#endif /* AMBIT_NETNS_H */
