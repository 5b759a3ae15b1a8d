// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Transparent capture. One object, because the hooks share their maps; one header per hook family:
 *   connect.h  outbound: to the agent's listener        names.h    getpeername and getsockname stay true
 *   sockops.h  hands the destination and trust over     lookup.h   inbound: to the agent's listeners
 *   bind.h     a restarted application gets its port    options.h  what an application asks of its socket
 * (dns.h will hold the UDP port 53 hooks)
 */
#include "bind.h"
#include "connect.h"
#include "lookup.h"
#include "names.h"
#include "options.h"
#include "sockops.h"

/* Helpers used here (bpf_sk_storage_get and others) are given to GPL-compatible programs only. */
char LICENSE[] SEC("license") = "GPL";
