// SPDX-License-Identifier: Apache-2.0
// HBONE as the proxies see it: tunnels that are byte streams, opened by a pool and accepted by a server.
// The wire behaviour is that of reference "HBONE on the wire" (HTTP/2 CONNECT, RFC 9113 8.5, over mutual TLS 1.3).

import type { CutSignal } from '../async/cut.ts'
import type { Server, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { SocketEngine } from '../relay/socket-engine.ts'
import type { HeldMemory } from '../http2/held-memory.ts'
import type { AskedSilence, WayToPeer } from '../http2/peer-silence.ts'
import type { TrustPolicy } from '../identity/trust-policy.ts'
import type { WorkloadCertificate } from '../identity/types.ts'
import type { HostPort } from '../model/host-port.ts'
import type { IpAddress, SocketAddress, SpiffeId } from '../model/types.ts'
import type { Result } from '../result.ts'
import type { DistrustReason } from './cut-code.ts'
import type { EndReason } from '../telemetry/end-reason.ts'
import type { LiveConnection } from './lifetime.ts'
import type { HboneSources } from './sources.ts'

/** Headers of the CONNECT beyond :method and :authority. Absent fields are not sent. */
export interface TunnelHeaders {
  readonly baggage?: string
  readonly forwarded?: string
  readonly traceparent?: string
  /** Of a waypoint, whom it calls for (original-client.ts). */
  readonly originalClient?: string
}

/**
 * One tunnelled TCP connection. end() is a half close (END_STREAM); 'end' is the peer's half close.
 * destroy(err) or reset() sends RST_STREAM, which the far side turns into a TCP RST.
 */
export interface HboneTunnel extends Duplex {
  /** Aborts the tunnel: RST_STREAM with CANCEL (RFC 9113 7). Idempotent. */
  reset(): void
  /** Ends it as `peerSilent` after such a silence of the peer; undefined: when the connection's own PING gives up. */
  askSilence(asked: AskedSilence | undefined): void
  /** Whether the peer ended it by RST_STREAM or the connection died, rather than by END_STREAM. Valid after 'close'. */
  readonly wasReset: boolean
}

/** A tunnel that nobody has used yet. It is used once: relays take its HTTP/2 stream out of it (tunnel.ts), others use it as a stream. */
export interface BareTunnel {
  /** As of the stream. */
  reset(): void
  askSilence(asked: AskedSilence | undefined): void
  /** Calls it when the tunnel is over, at once if it is; whoever was to be called before is not. */
  onceClosed(listener: () => void): void
  asStream(): HboneTunnel
}

export interface HboneFailure {
  readonly reason: EndReason
  readonly message: string
  /** HTTP status of a refused CONNECT. */
  readonly status?: number
  /** The system's code of a connection that could not be made, where it has one. */
  readonly code?: string | undefined
}

/** Pool key. The source IP is part of it because the server reads the client's address off the TCP connection. */
export interface PoolTarget {
  readonly sourceIdentity: SpiffeId
  /** undefined: what the source's own routes choose. */
  readonly sourceIp: IpAddress | undefined
  readonly destination: SocketAddress
  /** The server must present one of these, exactly. */
  readonly expectedIdentities: readonly SpiffeId[]
}

export interface HbonePoolOptions {
  /** Opens the TCP connection to the peer's port 15008 from inside the source pod's network. Resolves when connected. */
  readonly dial: (target: PoolTarget, signal: AbortSignal) => Promise<Result<Socket, HboneFailure>>
  readonly certificate: (
    identity: SpiffeId,
    signal: AbortSignal,
  ) => Promise<Result<WorkloadCertificate, HboneFailure>>
  /** What the kernel knows of the way to a socket's peer: who acknowledges is not silent. */
  readonly wayToPeer?: (socket: Socket) => WayToPeer | undefined
  /** Whom to take for one of the mesh's own; the workload's own trust domain alone when left out. */
  readonly trust?: TrustPolicy
  /** The pod served: when too much waits for receivers that do not read, the pod with the most of it is relieved first. */
  readonly owner?: string
  /** The account of what waits in this thread. */
  readonly memory: HeldMemory
  /** Of the thread: moves the bytes of connections that stand; Node does where there is none. */
  readonly engine?: SocketEngine | undefined
}

export interface OpenedTunnel {
  readonly bare: BareTunnel
  /** The tunnel as a stream, which it is from the first look on. */
  readonly tunnel: HboneTunnel
  /** `baggage` of the response, the destination's own description of itself. */
  readonly responseBaggage: string | undefined
  /** The identity the server proved. */
  readonly peerIdentity: SpiffeId
}

export interface HbonePool {
  open(
    target: PoolTarget,
    authority: string,
    headers: TunnelHeaders,
    signal: CutSignal,
  ): Promise<Result<OpenedTunnel, HboneFailure>>
  /** Live HTTP/2 connections, for tests, metrics and the admin dump. */
  connectionCount(): number
  /** Cuts the connections that may not go on, their tunnels ending for that reason; how many. For changes of trust. */
  closeWhere(isDistrusted: (connection: LiveConnection) => boolean, reason?: DistrustReason): number
  /** Lets go of connections, each after one that takes its place; their tunnels end by themselves. */
  leaveWhere(isOutdated: (connection: LiveConnection) => boolean): void
  /** GOAWAY on all; resolves when the last tunnel ended or the deadline passed (then what is left is cut). */
  drain(deadlineMs: number): Promise<{ readonly cut: number }>
}

/** One CONNECT that arrived, TLS and identity already verified; not yet answered. */
export interface IncomingTunnel {
  readonly authority: string
  readonly headers: TunnelHeaders
  readonly peerIdentity: SpiffeId
  /** The TCP peer: the client pod's own address. */
  readonly peer: SocketAddress
  /** The address that was dialled, i.e. podIP:15008. */
  readonly local: SocketAddress
  /** Aborts when the client gave up before the answer. */
  readonly signal: CutSignal
  /** Answers 200 and returns the byte stream. */
  accept(headers: { readonly baggage?: string }): HboneTunnel
  /** As accept(), for relays. */
  acceptBare(headers: { readonly baggage?: string }): BareTunnel
  /** Answers with an error status (400, 401, 503) and ends the stream. */
  reject(status: number): void
}

export interface HboneServerOptions {
  readonly certificate: WorkloadCertificate
  /**
   * Whether a connection came to the pod from outside of it. Others are reset before TLS: by loopback a pod would reach its own
   * node's agent, which no NetworkPolicy and no capture stands before.
   */
  readonly isFromOutside: (peer: SocketAddress, local: SocketAddress) => boolean
  /** Whether a workload of the mesh lives at this address: in a crowd of strangers it finds a place all the same. */
  readonly isKnownSource: (address: IpAddress) => boolean
  /** What callers have used up; shared by all pods of the thread. */
  readonly sources: HboneSources
  /** As for the pool. */
  readonly trust?: TrustPolicy
  readonly owner?: string
  readonly memory: HeldMemory
  readonly engine?: SocketEngine | undefined
  /** Never throws; called once per valid CONNECT. */
  readonly onTunnel: (incoming: IncomingTunnel) => void
  /** Connections refused before a tunnel existed: TLS failure, wrong trust domain, not CONNECT, flood. For log and metrics. */
  readonly onRefused: (event: {
    readonly peer: SocketAddress | undefined
    readonly reason: EndReason
    readonly message: string
  }) => void
}

/** A listening socket that is owned from then on, by its descriptor or taken over from a server that is not closed; or where to make one. */
export type ListenPlace = { readonly fd: number } | Server | HostPort

/** Serves HBONE for one workload. */
export interface HboneServer {
  /** Listens on a socket that listens already, which is its own from then on, or makes one; says the port. */
  listen(place: ListenPlace): Promise<number>
  /** New handshakes use the new certificate; live connections go on. */
  setCertificate(certificate: WorkloadCertificate): void
  connectionCount(): number
  /** As for the pool. */
  closeWhere(isDistrusted: (connection: LiveConnection) => boolean, reason?: DistrustReason): number
  /** GOAWAY on these: their clients make new ones, and their tunnels end by themselves. */
  leaveWhere(isOutdated: (connection: LiveConnection) => boolean): void
  /** Stops accepting, and nothing else: handshakes under way and connections go on. Resolves when none is left. */
  stopListening(): Promise<void>
  /** Stops accepting, sends GOAWAY, waits for tunnels up to the deadline, then cuts. */
  drain(deadlineMs: number): Promise<{ readonly cut: number }>
}
