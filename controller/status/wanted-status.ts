// SPDX-License-Identifier: Apache-2.0
// What is between those who know what statuses are to say and the one who writes them.

import type { SeenObject } from '../istio-api/seen-object.ts'

/** The kinds whose statuses say something of us. */
export type StatusKind =
  | 'AuthorizationPolicy'
  | 'PeerAuthentication'
  | 'GatewayClass'
  | 'Gateway'
  | 'Service'
  | 'HTTPRoute'
  | 'GRPCRoute'
  | 'TCPRoute'
  | 'TLSRoute'
  | 'BackendTLSPolicy'

/** A status that does not say what it should. */
export interface WantedStatus {
  readonly status: {
    readonly kind: StatusKind
    readonly namespace: string
    readonly name: string
    readonly seen: Pick<SeenObject, 'uid' | 'resourceVersion'>
  }
  /** The fields of the status that are to be replaced. */
  readonly body: object
}

/** Knows what the statuses of some objects are to say. */
export interface StatusSource {
  /** How many objects there are. */
  readonly size: number
  /** The statuses that do not say what they should at this moment. */
  differing(now: Date): Iterable<WantedStatus>
  /** Calls back at each change; returns the unsubscriber. */
  onChange(listener: () => void): () => void
}
