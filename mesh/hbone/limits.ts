// SPDX-License-Identifier: Apache-2.0
// The numbers of HBONE in one place, each with its unit and its reason. Those marked "wire" are what
// Istio's ztunnel announces, so that peers meet the windows they were tuned for.

import type { H2Settings } from '../http2/settings.ts'

/** Wire. Bytes of one tunnel that may be under way unread: a 4 ms path fills 8 Gbit/s with it. */
export const STREAM_WINDOW_BYTES = 4 * 1024 * 1024
/** Wire. Bytes of all tunnels of a connection that may be under way unread; what stalled ones hold is lent on top of it. */
export const CONNECTION_WINDOW_BYTES = 16 * 1024 * 1024
/**
 * Memory that the HBONE connections of all threads may hold for receivers that lag: half of an agent that has 1 GiB, which
 * leaves room for what it needs idle (docs/benchmarks.md) and for the connections. Over their share of it the greediest are reset.
 */
const HELD_BYTES = 512 * 1024 * 1024
/** The most that one thread gets of it: some 60 fully stalled tunnels. */
export const HELD_LIMIT_BYTES = 256 * 1024 * 1024
/** The least, however many threads: some 15 fully stalled tunnels. */
const LEAST_HELD_LIMIT_BYTES = 64 * 1024 * 1024

/** What each of so many threads may hold. */
export function heldLimitOf(threads: number): number {
  return Math.max(LEAST_HELD_LIMIT_BYTES, Math.min(HELD_LIMIT_BYTES, HELD_BYTES / threads))
}
/** Wire. The largest frame we accept. */
const MAX_FRAME_BYTES = 1024 * 1024
/** Wire. Tunnels a client may have open on one connection to us. */
const SERVER_MAX_STREAMS = 200
/** Wire. Header list a client accepts: responses carry a status and baggage. */
const CLIENT_HEADER_LIST_BYTES = 16 * 1024
/** Wire. Header list the server accepts: a CONNECT carries baggage, forwarded and traceparent. */
export const SERVER_HEADER_LIST_BYTES = 64 * 1024
/** Tunnels the pool puts on one connection even if the peer allows more: bounds what one lost connection takes along. */
export const POOL_MAX_STREAMS = 100

/** What the server of a pod announces. */
export const SERVER_SETTINGS: H2Settings = {
  streamWindowBytes: STREAM_WINDOW_BYTES,
  connectionWindowBytes: CONNECTION_WINDOW_BYTES,
  maxFrameBytes: MAX_FRAME_BYTES,
  headerListBytes: SERVER_HEADER_LIST_BYTES,
  maxStreams: SERVER_MAX_STREAMS,
}
/** What a client announces; it takes no streams of a server's. */
export const CLIENT_SETTINGS: H2Settings = {
  ...SERVER_SETTINGS,
  headerListBytes: CLIENT_HEADER_LIST_BYTES,
  maxStreams: 0,
}

/**
 * What a CONNECT costs of a turn (turn-budget.ts): to decide about it, refuse it and put that on record takes some 40 us, to carry it
 * more. Counted as a frame, a flood of calls that policy refuses had turns of 20 ms and more.
 */
export const CONNECT_UNITS = 48

/** Wire. Interval of HTTP/2 PINGs. */
export const PING_INTERVAL_MS = 10_000
/** Wire. A peer that has been silent for this long after a PING is dead. */
export const PING_TIMEOUT_MS = 20_000
/** Time from TCP accept to the peer's first SETTINGS while few are in their handshake: cuts slow-loris and half a TLS hello. */
export const ACCEPT_DEADLINE_MS = 10_000
/** The same when all places are taken: an honest handshake on a busy machine takes a tenth of it. */
export const SHORTEST_ACCEPT_DEADLINE_MS = 2_000
/** Time the client allows for TCP connect, as ztunnel does. */
export const CONNECT_DEADLINE_MS = 10_000
/** Time the client allows for TLS and the first SETTINGS after TCP is there. */
export const HANDSHAKE_DEADLINE_MS = 10_000
/** Time for the answer to a CONNECT: the peer dials its app first, for up to CONNECT_DEADLINE_MS; the rest is the way. */
export const ANSWER_DEADLINE_MS = CONNECT_DEADLINE_MS + 2_000
/** Pooled connections without tunnels are closed after this. */
export const IDLE_RELEASE_MS = 5 * 60_000
/** Such connections to one peer: room for 1,600 tunnels where it lets 100 share one. */
export const MAX_IDLE_PER_PEER = 16

/** Connections to a worker's pods that may be in their handshake at once, over all sources: each costs about 50 KB and a signature. */
export const MAX_UNAUTHENTICATED = 2_048
/** The same from one source (address, or /64 of strangers); more of it push out its own. */
const MAX_UNAUTHENTICATED_PER_SOURCE = 256
/** Of them all, places that only addresses of the mesh's workloads take: a quarter, as many as can shake hands in half a second. */
const RESERVED_FOR_MESH = 512

/** No worker gets by with fewer. */
const LEAST_UNAUTHENTICATED = 64

/** The bounds of handshakes where a worker has so many descriptors for them: the same parts of less. */
export function handshakeBounds(descriptors: number): {
  readonly unauthenticated: number
  readonly unauthenticatedPerSource: number
  readonly reservedForMesh: number
} {
  const unauthenticated = Math.floor(
    Math.min(MAX_UNAUTHENTICATED, Math.max(LEAST_UNAUTHENTICATED, descriptors)),
  )
  const part = unauthenticated / MAX_UNAUTHENTICATED
  return {
    unauthenticated,
    unauthenticatedPerSource: Math.ceil(part * MAX_UNAUTHENTICATED_PER_SOURCE),
    reservedForMesh: Math.floor(part * RESERVED_FOR_MESH),
  }
}

/** HTTP/2 connections one source address may have to a pod. Our pool puts 100 tunnels on each. */
export const MAX_CONNECTIONS_PER_SOURCE = 128
/**
 * The same to all pods of a worker. A pod that calls each of the 250 pods of a full node has a connection to each, and 164 carry
 * all the 16,384 connections it may have; twice as many while certificates are renewed: 828. Of other proxies an Envoy has one for each
 * of its threads: a gateway of eight has 2,000.
 */
export const MAX_CONNECTIONS_OF_ADDRESS = 2_048
/**
 * The same of one identity, whose pods may be many: four such gateways, or 32 pods that each call every pod of a full node. Beyond
 * that each workload of the mesh still gets a few (mesh/hbone/sources.ts).
 */
export const MAX_CONNECTIONS_OF_IDENTITY = 8_192

/** TLS 1.3 only. AES-128 first: on AES-NI it is about 15 % faster per byte than AES-256 and as sound; both are accepted. */
export const TLS_CIPHERS = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384'
