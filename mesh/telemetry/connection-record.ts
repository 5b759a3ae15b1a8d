// SPDX-License-Identifier: Apache-2.0
// What is told of a connection: plain data, written once, from which access line, metrics and dump are made. It names no process
// and holds no socket, so whoever carries connections can write one: a proxy, the kernel, a waypoint.

import type { Service, SocketAddress, SpiffeId, Workload } from '../model/types.ts'
import { END_REASONS, type EndReason } from './end-reason.ts'

/** Seen from the pod whose record it is. A call between two pods of one node leaves two: `outbound` of one, `inbound` of the other. */
export type Direction = 'inbound' | 'outbound'

/**
 * What the two ends' identities rest on, in the words of Istio's label connection_security_policy: certificates; the kernel, which
 * knows both pods by their namespaces; or nothing.
 */
export type ConnectionSecurity = 'mutual_tls' | 'node_local' | 'unknown'

/** What discovery says of a workload, as far as telemetry names it. */
export type WorkloadLabels = Pick<
  Workload,
  'workloadName' | 'canonicalName' | 'canonicalRevision' | 'clusterId' | 'locality'
>

/** One end of a connection, as far as it is known. */
export interface Party {
  readonly name: string | undefined
  readonly namespace: string | undefined
  /** The workload's key in the mesh. */
  readonly uid: string | undefined
  /** undefined until discovery knows the workload; a pod of this node has a name before. */
  readonly labels: WorkloadLabels | undefined
  /** The proven identity; undefined for plaintext. */
  readonly identity: SpiffeId | undefined
}

export const UNKNOWN_PARTY: Party = {
  name: undefined,
  namespace: undefined,
  uid: undefined,
  labels: undefined,
  identity: undefined,
}

/** The service that was called. */
export type CalledService = Pick<Service, 'key' | 'name' | 'namespace' | 'hostname'>

/** A waypoint that a call has passed. */
export interface PassedWaypoint {
  /** `namespace/name` */
  readonly name: string
  readonly identity: SpiffeId
  readonly address: SocketAddress
}

/** What is known while the connection runs. */
export interface ConnectionAbout {
  readonly direction: Direction
  /** Milliseconds since the epoch. */
  readonly startedAt: number
  readonly source: Party
  readonly sourceAddress: SocketAddress | undefined
  readonly destination: Party
  /** The address dialled: the peer's HBONE port for tunnels. */
  readonly destinationAddress: SocketAddress | undefined
  /** The address asked for inside the tunnel. */
  readonly hboneTarget: SocketAddress | undefined
  readonly service: CalledService | undefined
  readonly security: ConnectionSecurity
  /** Where it came by one: source and source address are those that it calls for then. */
  readonly via?: PassedWaypoint | undefined
}

/** Bytes moved until now. */
export interface ByteCounts {
  /** Request bytes: from the one who called towards the one who was called. */
  readonly bytesToUpstream: number
  /** Response bytes: back to the one who called. */
  readonly bytesToDownstream: number
}

/** Which policy decided on a connection, and what of it. */
export interface DecidedBy {
  /** As `namespace/name`. */
  readonly policy: string
  /** The rule's place in the `spec.rules` of the object, from 0; undefined when it was none of them alone. */
  readonly rule: number | undefined
  /** The object that the policy was made of, as `kind namespace/name`; undefined where the policy itself is not there to say so. */
  readonly madeOf: string | undefined
}

/** What policies say that are not enforced; undefined when they say nothing. */
export interface PolicyReports {
  /** What would have become of the connection by the policies on trial alone. */
  readonly dryRun: string | undefined
  /** The AUDIT policies that match it, as `namespace/name`. */
  readonly audit: string | undefined
}

/** A connection that is over. */
export interface ConnectionRecord extends ConnectionAbout, ByteCounts {
  readonly durationMs: number
  readonly end: EndReason
  /** More than the reason's own text, where there is more to say. */
  readonly message: string | undefined
  /** The policy that refused or cut it, as `namespace/name`; undefined when none did. */
  readonly policy: string | undefined
  /** The rule of it that did, as its place in the object's `spec.rules`; undefined when it was none of them alone. */
  readonly rule: number | undefined
  /** The object that this policy was made of, as `kind namespace/name`. */
  readonly madeOf: string | undefined
  readonly reports: PolicyReports | undefined
}

/** Istio's response flag of an end, `-` for none. */
export function flagOf(end: EndReason): string {
  return END_REASONS[end].flag
}

/** The end that a workload of the mesh stands at. */
export function partyOf(
  workload: Workload | undefined,
  identity: SpiffeId | undefined = undefined,
): Party {
  if (workload === undefined)
    return identity === undefined ? UNKNOWN_PARTY : { ...UNKNOWN_PARTY, identity }
  const { name, namespace, uid } = workload
  return { name, namespace, uid, labels: workload, identity }
}
