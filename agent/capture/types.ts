// SPDX-License-Identifier: Apache-2.0
// The border between capture (eBPF, namespaces) and everything above it. Two ideas: a pod is enrolled and
// withdrawn; a captured connection knows its original destination. Whatever else capture does stays behind here.

import type { IpAddress, SocketAddress } from '../../mesh/model/types.ts'
import type { AmbitError } from '../../mesh/errors.ts'
import type { Result } from '../../mesh/result.ts'

/** A pod to enrol. */
export interface CapturePod {
  /** Kubernetes UID: the key of everything; never an IP, which may be reused. */
  readonly uid: string
  readonly namespace: string
  readonly name: string
  /** A path that opens the pod's network namespace, e.g. /run/netns/x or /proc/123/ns/net. */
  readonly netnsPath: string
  /** The pod's own addresses, one or two (dual stack). */
  readonly addresses: readonly IpAddress[]
  /** When the agent is down: false (default) refuses the pod's connections, true lets them out in plaintext. */
  readonly failOpen: boolean
  /** Refuses a namespace that does not have the pod's address: it is another's, or was passed off for the pod's. */
  readonly mustHaveAddress?: boolean
}

/** Listening sockets inside the pod's namespace, one set per address family the pod has. The receiver owns the fds. */
export interface PodListeners {
  /** 15001, captured outbound connections. */
  readonly outbound: readonly number[]
  /** 15006, plaintext inbound on any port; the accepted socket's local address is the original destination. */
  readonly inbound: readonly number[]
  /** 15008, HBONE. */
  readonly hbone: readonly number[]
}

export interface Enrolment {
  readonly pod: CapturePod
  /** SO_NETNS_COOKIE of the pod's namespace: what eBPF knows the pod by; never reused by the kernel. */
  readonly netnsCookie: bigint
  /** An open fd of the namespace, owned by capture until withdraw; data-plane sockets are opened through it. */
  readonly netnsFd: number
  readonly listeners: PodListeners
  /** Whether the namespace was captured before, by this or an earlier process: unserved, it is cut off then, not plain. */
  readonly wasCaptured: boolean
}

/** What is to be said of a pod's network while it is enrolled. */
export interface NetworkReport {
  /**
   * `repaired`: something in the pod had changed what the mesh depends on there, and it has been put right; `contested`: it is
   * changed again and again, and put right at growing intervals; `clash`: a routing rule of the pod's own stands against the
   * mesh's; `familyCame`: the pod has addresses of a family that it could not be listened on before, and enrolling again
   * mends it; `withoutLoopback6`: enrolling again did not.
   */
  readonly kind: 'repaired' | 'contested' | 'clash' | 'familyCame' | 'withoutLoopback6'
  /** The things concerned, in the words of `ip` and `sysctl`. */
  readonly what: readonly string[]
}

export interface Capture {
  /** Who is told of pods' networks; nobody until then. */
  onNetworkReport(listener: (podUid: string, report: NetworkReport) => void): void
  /**
   * Enrols a pod: listeners, sysctls and routes, listener map, pod map (outbound live), sk_lookup link (inbound
   * live), in that order; a failure undoes what was done and leaves the pod in plaintext, but a pod that was captured
   * already (by an earlier process, too) and does not fail open stays captured, unserved.
   * Re-enrolling a uid with the same namespace makes new listeners and swaps them in without a gap.
   */
  enrol(pod: CapturePod): Promise<Result<Enrolment, AmbitError>>
  /**
   * Ends capture of a pod that leaves the mesh and lives on, and gives it an HBONE listener of its own (and none of the
   * others): peers that have not heard of it yet are served there, for the port is reached without sk_lookup. It stands
   * before capture ends. Also for a pod that had left already and whose listener is lost. Until `carried` settles or the
   * pod is enrolled again, as withdraw().
   */
  leave(pod: CapturePod, carried: Promise<unknown>): Promise<Result<Enrolment, AmbitError>>
  /**
   * Reverse order of enrol. Idempotent; a vanished namespace is no error. Rule, route and sysctls, without which the
   * app's answers to established connections would leave the pod, stay until `carried` settles, if it is given.
   */
  withdraw(podUid: string, carried?: Promise<unknown>): Promise<void>
  /** Removes enrolments (pins, map entries) left by an earlier process for pods not in `keep`. */
  sweep(keep: ReadonlySet<string>): Promise<void>
  /** Releases this process's fds. `unpin` also detaches every program and removes the pins: pods fall back to plaintext. */
  close(options: { readonly unpin: boolean }): Promise<void>
}

/** Where an app wanted to go, and what it asked of the socket that its own routing would have heeded. */
export interface OriginalDestination extends SocketAddress {
  /** It chose the port that it calls from. */
  readonly hasOwnPort?: boolean
  /** The kernel's name of the app's socket, never used again while it runs. */
  readonly cookie?: bigint
  /** What was asked before connect(). */
  readonly asked?: AskedOptions | undefined
}

/** Options of an app's socket that concern the way beyond the agent; 0: not asked. */
export interface AskedOptions {
  readonly keepAlive: boolean
  readonly keepIdleS: number
  readonly keepIntervalS: number
  readonly keepProbes: number
  readonly userTimeoutMs: number
  /** IP_TOS or IPV6_TCLASS. */
  readonly trafficClass: number
}

/** Where a socket of the agent's comes from. */
export interface UpstreamSource {
  readonly address: IpAddress
  /** 0: the kernel chooses one at connect(), so that the tuple is unique and not the port alone. */
  readonly port: number
  /**
   * Whose the address is. `pod`: the namespace's own. `foreign`: nobody's here, and its answers come back by the pod's own routing.
   * `client`: a caller's; marked 0x111, so that the app's answers stay in the pod, and refused by connect() (EADDRINUSE,
   * before 5.18 EPERM) where the caller has a connection of its own with these addresses and ports.
   */
  readonly whose: 'pod' | 'foreign' | 'client'
}

export type OwnSource = UpstreamSource & { readonly whose: 'pod' | 'foreign' }

/** What a data-plane worker thread needs of capture; made in each worker from the plain data of `DataPlaneHandles`. */
export interface DataPlaneSockets {
  /** The address the app asked for, read from the accepted socket's storage by fd; undefined when none was recorded. */
  originalDestination(acceptedFd: number): OriginalDestination | undefined
  /**
   * Opens an unconnected TCP socket in a pod's namespace, exempt from capture (flag in socket storage, set before
   * any connect), non-blocking. Fails with EADDRINUSE in `cause` where `from` is taken.
   */
  openUpstream(request: {
    readonly netnsFd: number
    readonly family: 4 | 6
    readonly from?: UpstreamSource
  }): Result<number, AmbitError>
  /** Opens one that capture meets as an app's own: without the exemption, and not bound. This process runs where the hooks see it. */
  openAsApp(request: {
    readonly netnsFd: number
    readonly family: 4 | 6
  }): Result<number, AmbitError>
  /** Whether the connect() of such a socket was turned to the agent. */
  isCaptured(fd: number): boolean
  /** What the app with this socket has asked since the last look, or since connect(); everything that is in force then. */
  askedSince(cookie: bigint): AskedOptions | undefined
  /** Sets them on a socket of the agent's. Throws NativeError. */
  setOptions(fd: number, asked: AskedOptions): void
  /**
   * The TCP handshakes under way in a pod's namespace, each by its own name; undefined where the kernel cannot list them.
   * Walks the node's whole socket table: for what happens once in a pod's stay, not for each connection.
   */
  handshakesIn(netnsFd: number): ReadonlySet<string> | undefined
}

/** Plain, transferable data from which a worker builds its DataPlaneSockets. */
export interface DataPlaneHandles {
  readonly socketStorageMapFd: number
  /** Where what apps ask after connect() waits to be read. */
  readonly askedSinceMapFd: number
  /** The namespace the agent's threads live in, to return to. */
  readonly homeNetnsFd: number
}
