/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The maps: all of a pod's configuration lives here, so that enrolment is a map update and programs are shared. */
#ifndef AMBIT_MAPS_H
#define AMBIT_MAPS_H

#include "common.h"

/* Pods a node may have: kubelet's default is 110, large nodes go to 500. */
#define MAX_PODS 1024
/* Captured connections between SYN and accept; an entry lives for one loopback handshake. */
#define MAX_PENDING 65536
/* Of one pod: twice the accept queue of its listener, so that a pod that floods its own starves no other. */
#define MAX_PENDING_PER_POD 8192
/* Kubelet probes and the agent's connections to applications, between SYN and establishment. */
#define MAX_TRUSTED 65536

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PODS);
	__type(key, __u64);
	__type(value, struct ambit_pod);
} pods SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, MAX_PODS * 6); /* two families of three kinds */
	__type(key, struct ambit_listener);
	__type(value, __u64);
} listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct ambit_socket);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_PENDING);
	__type(key, struct ambit_tuple);
	__type(value, struct ambit_socket);
} pending SEC(".maps");

/* How many of `pending` are of one namespace. LRU: those of namespaces that are gone make room by themselves. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_PODS * 4);
	__type(key, __u64);
	__type(value, __s64);
} pending_counts SEC(".maps");

/* LRU: when it overflows, a probe is treated as any plaintext caller, which is the safe side. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_TRUSTED);
	__type(key, struct ambit_trusted_tuple);
	__type(value, __u64);
} trusted SEC(".maps");

/*
 * By cookie of an application's socket: what it asked after it was connected, until the agent has read it, within a second or
 * so. LRU: where it overflows meanwhile, an application's later wish is not heard; what it asked before connect() is.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct ambit_asked);
} asked_since SEC(".maps");

/* Ids of the cgroups the kubelet runs in; the value says nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u64);
	__type(value, __u32);
} kubelet_cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, AMBIT_REASON_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* Keeps the enum in BTF, where the agent compares it with its own list. */
const volatile enum ambit_reason reason_in_btf;

static __always_inline void count(enum ambit_reason reason)
{
	__u32 index = reason;
	__u64 *value = bpf_map_lookup_elem(&counters, &index);

	if (value)
		*value += 1;
}

#endif /* AMBIT_MAPS_H */
