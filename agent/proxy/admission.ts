// SPDX-License-Identifier: Apache-2.0
// Whether a call may enter a pod, whatever way it comes: by HBONE, in plaintext, from a pod of the same node. Nothing is relayed
// without the permit that is given here and nowhere else, and as long as it is held the connection counts.

import type {
  IpAddress,
  PodUid,
  SocketAddress,
  SpiffeId,
  Workload,
} from '../../mesh/model/types.ts'
import type { CutSignal } from '../../mesh/async/cut.ts'
import type { DecidedBy, PolicyReports } from '../../mesh/telemetry/connection-record.ts'
import { END_REASONS, type EndReason } from '../../mesh/telemetry/end-reason.ts'
import { isMeshPort } from '../../mesh/model/ports.ts'
import type { OutboundCall } from './decision/network-judge.ts'
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
  /** What is missing may still come until then, by the monotonic clock: then it is asked again. */
  readonly pendingUntilMs?: number
}

/** As it is where there is nothing to wait for. */
type Seated = { readonly kind: 'permit'; readonly permit: Permit } | Refusal

export type Admission =
  | Seated
  /** It has its place, and is to wait there for policies of the pod until they come, and no longer than that. */
  | { readonly kind: 'wait'; readonly permit: Permit; readonly untilMs: number }

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

export type OutboundJudge = (call: OutboundCall, source: LocalPod) => Refusal | undefined

/** What admission goes by in one worker. */
export interface Gate {
  readonly places: Places
  /** Who counts as one caller: an address of the mesh, or a stranger's network. */
  readonly callerOf: (address: IpAddress) => string
  readonly judge: Judge
  readonly policies: NewsOfPolicies
  /** What the rules say of a call that the pod makes. */
  readonly judgeOutbound: OutboundJudge
}

/** What else admission asks policies. */
export interface NewsOfPolicies {
  /** The pod's workload as it was told last, gone or not; undefined where nobody has told of it. */
  readonly lastSaid: (pod: LocalPod) => Workload | undefined
  /** Resolves when the pod's policies may say something else, at that time at the latest, or at a signal. */
  readonly changed: (pod: PodUid, untilMs: number, signals: readonly CutSignal[]) => Promise<void>
  /** What those that are not enforced say of the call. */
  readonly reports: (call: InboundCall, pod: LocalPod) => PolicyReports | undefined
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

/**
 * Decides whether the call may enter the pod. Its owner releases the permit when the call is over. What has to wait does so in a place:
 * so those who wait are as few as those who are let in, and the greediest caller gives way.
 */
export function admit(call: InboundCall, destination: LocalPod, door: Door, gate: Gate): Admission {
  const refusal = gate.judge(call, destination)
  const untilMs = refusal?.pendingUntilMs
  if (refusal !== undefined && untilMs === undefined) return refusal
  const { via, peer } = call
  const seated = seat(destination, gate.callerOf(peer.address), DESCRIPTORS[via], door, gate)
  if (untilMs === undefined || seated.kind === 'refuse') return seated
  return { kind: 'wait', permit: seated.permit, untilMs }
}

/** Decides whether the pod may make one more connection. */
export function admitOutbound(source: LocalPod, door: Door, gate: Gate): Seated {
  // Its own calls count as those of one caller: whoever calls the pod cannot keep it from calling.
  return seat(source, ITSELF, DESCRIPTORS_OF_CONNECTION, door, gate)
}

/** The mesh's own rules for a call into a pod; policies come after (policy-gate.ts). */
export const judge: Judge = ({ target }) => {
  if (isMeshPort(target.port)) return refuse('selfCall', `port ${target.port} belongs to the mesh`)
  return undefined
}

function seat(
  pod: LocalPod,
  caller: string,
  descriptors: number,
  { closedBy }: Door,
  { places }: Gate,
): Seated {
  if (closedBy !== undefined) return refuse(closedBy, END_REASONS[closedBy].text)
  const place = places.enter(pod, caller, descriptors)
  if (place === undefined) return refuse('tooManyConnections', END_REASONS.tooManyConnections.text)
  return { kind: 'permit', permit: new Permit(place) }
}

function refuse(reason: EndReason, message: string): Refusal {
  return { kind: 'refuse', reason, message, by: undefined }
}
