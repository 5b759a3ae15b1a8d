/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Kernel types, helpers, and arithmetic on addresses. Only the kernel's stable interface (linux/bpf.h) is touched, no
 * struct of its inside: the object needs no CO-RE relocation and is the same whatever kernel it was built beside.
 */
#ifndef AMBIT_COMMON_H
#define AMBIT_COMMON_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "ambit.h"

/* From headers of the C library, which has none for this target. */
#define AF_INET 2
#define AF_INET6 10
#define SOL_SOCKET 1
#define SO_REUSEADDR 2
#define SO_KEEPALIVE 9
#define IP_TOS 1
#define IPV6_TCLASS 67
#define TCP_KEEPIDLE 4
#define TCP_KEEPINTVL 5
#define TCP_KEEPCNT 6
#define TCP_USER_TIMEOUT 18
#define EEXIST 17
#define EADDRINUSE 98
#define ENETUNREACH 101

/* Verdicts of the cgroup socket-address hooks. */
#define DENY 0
#define ALLOW 1

/* Set before loading. */
const volatile __u64 node_netns_cookie; /* the namespace the kubelet runs in */
const volatile __u32 has_set_retval;	/* bpf_set_retval() exists for these hooks (5.18) */

/*
 * A 32-bit field of a context, by one instruction of its own. Left to itself, clang merges the loads or stores of two
 * fields through a computed pointer, which the verifier refuses ("dereference of modified ctx ptr").
 */
#define CTX_LOAD_AT(ctx, offset, type)                                                       \
	({                                                                                   \
		__u64 word_;                                                                 \
		asm volatile("%0 = *(" type " *)(%1 + %2)"                                   \
			     : "=r"(word_)                                                   \
			     : "r"(ctx), "i"(offset));                                       \
		word_;                                                                       \
	})
#define CTX_LOAD(ctx, field, type)                                                           \
	CTX_LOAD_AT(ctx, __builtin_offsetof(typeof(*(ctx)), field), type)
#define CTX_READ(ctx, field)                                                                 \
	({                                                                                   \
		_Static_assert(sizeof((ctx)->field) == sizeof(__u32), #field " is no word"); \
		(__u32)CTX_LOAD(ctx, field, "u32");                                          \
	})
#define CTX_WRITE(ctx, field, value)                                                         \
	({                                                                                   \
		__u64 word_ = (__u32)(value);                                                \
		_Static_assert(sizeof((ctx)->field) == sizeof(__u32), #field " is no word"); \
		asm volatile("*(u32 *)(%0 + %1) = %2" ::"r"(ctx),                            \
			     "i"(__builtin_offsetof(typeof(*(ctx)), field)), "r"(word_));    \
	})

/* What a refused call returns. Headers before 5.18 do not have it; called only where has_set_retval says so. */
static long (*const set_retval)(int retval) = (void *)187;

static __always_inline void map_ipv4(struct ambit_address *address, __u32 ipv4)
{
	address->word[0] = 0;
	address->word[1] = 0;
	address->word[2] = bpf_htonl(0xffff);
	address->word[3] = ipv4;
}

static __always_inline bool is_mapped(const struct ambit_address *address)
{
	return !address->word[0] && !address->word[1] && address->word[2] == bpf_htonl(0xffff);
}

static __always_inline bool is_same(const struct ambit_address *a, const struct ambit_address *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] &&
	       a->word[3] == b->word[3];
}

static __always_inline bool is_zero(const struct ambit_address *address)
{
	return !(address->word[0] | address->word[1] | address->word[2] | address->word[3]);
}

static __always_inline bool is_loopback4(__u32 ipv4)
{
	return (ipv4 & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
}

static __always_inline bool is_loopback6(const struct ambit_address *address)
{
	return !address->word[0] && !address->word[1] && !address->word[2] &&
	       address->word[3] == bpf_htonl(1);
}

/*
 * Destinations that stay inside the pod or on its link. 169.254/16 is among them: cloud metadata services must
 * answer with or without a mesh.
 */
static __always_inline bool is_local_scope4(__u32 ipv4)
{
	return ipv4 == 0 || is_loopback4(ipv4) ||
	       (ipv4 & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) ||
	       (ipv4 & bpf_htonl(0xffff0000)) == bpf_htonl(0xa9fe0000);
}

static __always_inline bool is_local_scope6(const struct ambit_address *address)
{
	return is_zero(address) || is_loopback6(address) ||
	       (address->word[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000) ||
	       (address->word[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

static __always_inline bool is_own(const struct ambit_pod *pod, const struct ambit_address *address)
{
	__u32 i;

	for (i = 0; i < AMBIT_MAX_ADDRESSES; i++) {
		if (i >= pod->address_count)
			return false;
		if (is_same(&pod->address[i].address, address))
			return true;
	}
	return false;
}

static __always_inline bool is_in_network(const struct ambit_pod_address *own,
					  const struct ambit_address *address)
{
	__u32 differ = 0, i;

#pragma unroll
	for (i = 0; i < 4; i++)
		differ |= (own->address.word[i] ^ address->word[i]) & own->mask.word[i];
	return !differ;
}

/* Whether a network that the pod has an address on has this one, too. */
static __always_inline bool is_on_network(const struct ambit_pod *pod,
					  const struct ambit_address *address)
{
	__u32 i;

	for (i = 0; i < AMBIT_MAX_ADDRESSES; i++) {
		if (i >= pod->address_count)
			return false;
		if (is_in_network(&pod->address[i], address))
			return true;
	}
	return false;
}

/* The address the pod would call this one from: its own in the same network, or the one of its way out. */
static __always_inline const struct ambit_address *
source_for(const struct ambit_pod *pod, const struct ambit_address *destination, bool ipv6)
{
	__u32 i;

	for (i = 0; i < AMBIT_MAX_ADDRESSES; i++) {
		if (i >= pod->address_count)
			break;
		if (is_in_network(&pod->address[i], destination))
			return &pod->address[i].address;
	}
	return ipv6 ? &pod->primary6 : &pod->primary4;
}

/* An address of a device of the pod, where the device has one of this family. */
static __always_inline const struct ambit_address *
address_of_device(const struct ambit_pod *pod, __u32 interface, bool ipv6)
{
	__u32 i;

	for (i = 0; i < AMBIT_MAX_ADDRESSES; i++) {
		if (i >= pod->address_count)
			break;
		if (pod->address[i].interface == interface && is_mapped(&pod->address[i].address) != ipv6)
			return &pod->address[i].address;
	}
	return ipv6 ? &pod->primary6 : &pod->primary4;
}

#endif /* AMBIT_COMMON_H */
