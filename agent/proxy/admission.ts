// SPDX-License-Identifier: Apache-2.0
// Whether a call may enter a pod, whatever way it comes: by HBONE, in plaintext, from a pod of the same node. Nothing is relayed
// without the permit that is given here and nowhere else, and as long as it is held the connection counts.

import type { IpAddress, PodUid, SocketAddress, SpiffeId } from '../../mesh/model/types.ts'
import type { DecidedBy } from '../../mesh/telemetry/connection-record.ts'
import { END_REASONS, type EndReason } from '../../mesh/telemetry/end-reason.ts'
import { isMeshPort } from '../../mesh/model/ports.ts'
import type { LocalPod } from './local-pod.ts'
import { DESCRIPTORS_OF_CONNECTION, type Occupant, type Place, type Places } from './places.ts'

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
  /** The policy that refuses it; undefined when it is a rule of the mesh. */
  readonly by: DecidedBy | undefined
}

export type Admission = { readonly kind: 'permit'; readonly permit: Permit } | Refusal

/** What a call into a pod costs beside what its caller pays: a tunnel has no socket of its own, a neighbour has paid for both. */
const DESCRIPTORS: Readonly<Record<InboundCall['via'], number>> = {
  hbone: 1,
  plaintext: DESCRIPTORS_OF_CONNECTION,
  sameNode: 0,
  kernel: 0,
}
const ITSELF = 'itself'

/** What the rules say of a call: they look at it alone, not at how many there are. */
export type Judge = (call: InboundCall, destination: LocalPod) => Refusal | undefined

/** What admission goes by in one worker. */
export interface Gate {
  readonly places: Places
  /** Who counts as one caller: an address of the mesh, or a stranger's network. */
  readonly callerOf: (address: IpAddress) => string
  readonly judge: Judge
}

/** Whether a pod takes part: undefined while it does, then why it ended. */
export interface Door {
  readonly closedBy: EndReason | undefined
}

/** The right to carry one connection of one pod. Only this file makes them: the class is not exported, its type is. */
class Permit {
  readonly pod: PodUid
  readonly #place: Place

  constructor(place: Place) {
    this.pod = place.uid
    this.#place = place
  }

  get isValid(): boolean {
    return !this.#place.isLeft
  }

  /** Says who carries it, and is cut when its place is needed for somebody who has fewer. */
  heldBy(occupant: Occupant): void {
    this.#place.occupy(occupant)
  }

  /** Gives the connection's place back, the first time it is called. */
  release(): void {
    this.#place.leave()
  }
}
export type { Permit }

/** Decides whether the call may enter the pod. Its owner releases the permit when the call is over. */
export function admit(call: InboundCall, destination: LocalPod, door: Door, gate: Gate): Admission {
  const refusal = gate.judge(call, destination)
  if (refusal !== undefined) return refusal
  const { via, peer } = call
  return seat(destination, gate.callerOf(peer.address), DESCRIPTORS[via], door, gate)
}

/** Decides whether the pod may make one more connection. */
export function admitOutbound(source: LocalPod, door: Door, gate: Gate): Admission {
  // Its own calls count as those of one caller: whoever calls the pod cannot keep it from calling.
  return seat(source, ITSELF, DESCRIPTORS_OF_CONNECTION, door, gate)
}

/** The rules for a call into a pod. Asked again for open connections when one of them changes. */
export const judge: Judge = ({ target }) => {
  if (isMeshPort(target.port)) return refuse('selfCall', `port ${target.port} belongs to the mesh`)
  // Policy is asked here: by the peer's identity and address, and the target.
  return undefined
}

function seat(
  pod: LocalPod,
  caller: string,
  descriptors: number,
  { closedBy }: Door,
  { places }: Gate,
): Admission {
  if (closedBy !== undefined) return refuse(closedBy, END_REASONS[closedBy].text)
  const place = places.enter(pod, caller, descriptors)
  if (place === undefined) return refuse('tooManyConnections', END_REASONS.tooManyConnections.text)
  return { kind: 'permit', permit: new Permit(place) }
}

function refuse(reason: EndReason, message: string): Refusal {
  return { kind: 'refuse', reason, message, by: undefined }
}
