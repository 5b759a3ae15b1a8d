// SPDX-License-Identifier: Apache-2.0
// Whether a call may enter a pod, whatever way it comes: by HBONE, in plaintext, from a pod of the same node. Nothing is relayed
// without the permit that is given here and nowhere else, and as long as it is held the connection counts.

import type { PodUid, SocketAddress, SpiffeId } from '../../mesh/model/types.ts'
import { END_REASONS, type EndReason } from '../../mesh/telemetry/end-reason.ts'
import { isMeshPort } from '../../mesh/model/ports.ts'
import type { ConnectionCounts } from './connection-counts.ts'
import type { LocalPod } from './local-pod.ts'

/** A call as it arrives at a pod of this node. */
export interface InboundCall {
  readonly peer: SocketAddress
  /** Proven by a certificate or by the kernel; undefined for plaintext. */
  readonly peerIdentity: SpiffeId | undefined
  readonly destination: PodUid
  /** Where in the pod it leads: what was decided, not what was asked for. */
  readonly target: SocketAddress
  readonly via: 'hbone' | 'plaintext' | 'sameNode' | 'kernel'
}

export interface Refusal {
  readonly kind: 'refuse'
  readonly reason: EndReason
  readonly message: string
  /** The policy that refuses it, as `namespace/name`; undefined when it is a rule of the mesh. */
  readonly policy: string | undefined
}

export type Admission = { readonly kind: 'permit'; readonly permit: Permit } | Refusal

/** What the rules say of a call: they look at it alone, not at how many there are. */
export type Judge = (call: InboundCall, destination: LocalPod) => Refusal | undefined

/** What admission goes by in one worker. */
export interface Gate {
  readonly counts: ConnectionCounts
  /** Connections a pod may have open at once, both directions together. */
  readonly maxConnections: number
  readonly judge: Judge
}

/** Whether a pod takes part: undefined while it does, then why it ended. */
export interface Door {
  readonly closedBy: EndReason | undefined
}

/** The right to carry one connection of one pod. Only this file makes them: the class is not exported, its type is. */
class Permit {
  readonly pod: PodUid
  readonly #counts: ConnectionCounts
  readonly #seat: number
  #isReleased = false

  constructor({ uid, seat }: LocalPod, counts: ConnectionCounts) {
    this.pod = uid
    this.#counts = counts
    this.#seat = seat
  }

  get isValid(): boolean {
    return !this.#isReleased
  }

  /** Gives the connection's place back, the first time it is called. */
  release(): void {
    if (this.#isReleased) return
    this.#isReleased = true
    this.#counts.leave(this.#seat)
  }
}
export type { Permit }

/** Decides whether the call may enter the pod. Its owner releases the permit when the call is over. */
export function admit(call: InboundCall, destination: LocalPod, door: Door, gate: Gate): Admission {
  return gate.judge(call, destination) ?? count(destination, door, gate)
}

/** Decides whether the pod may make one more connection. */
export function admitOutbound(source: LocalPod, door: Door, gate: Gate): Admission {
  return count(source, door, gate)
}

/** The rules for a call into a pod. Asked again for open connections when one of them changes. */
export const judge: Judge = ({ target }) => {
  if (isMeshPort(target.port)) return refuse('selfCall', `port ${target.port} belongs to the mesh`)
  // Policy is asked here: by the peer's identity and address, and the target.
  return undefined
}

function count(pod: LocalPod, { closedBy }: Door, { counts, maxConnections }: Gate): Admission {
  if (closedBy !== undefined) return refuse(closedBy, END_REASONS[closedBy].text)
  if (!counts.enter(pod.seat, maxConnections))
    return refuse('tooManyConnections', END_REASONS.tooManyConnections.text)
  return { kind: 'permit', permit: new Permit(pod, counts) }
}

function refuse(reason: EndReason, message: string): Refusal {
  return { kind: 'refuse', reason, message, policy: undefined }
}
