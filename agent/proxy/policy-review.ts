// SPDX-License-Identifier: Apache-2.0
// Asks policy again about the open connections of pods whose policies have changed, and of those whose far end is another peer to
// NetworkPolicies than before, and cuts those that may not be there any more, whatever way they came; of pods that have come to be bound to a
// waypoint, those that have passed none. Changes that come faster than that are asked for once; however many connections there are, each turn
// of the event loop sees to a few.

import type { IpAddress, PodUid } from '../../mesh/model/types.ts'
import type { Gate, Refusal } from './admission.ts'
import type { Connection } from './connection.ts'
import type { LocalPod } from './local-pod.ts'
import type { OpenConnections } from './open-connections.ts'

/** Some 0.5 ms with policies in the thousands: what waits for its turn does not notice. */
const CONNECTIONS_A_TURN = 256

/** Who is asked. */
export interface Reviewer extends Pick<Gate, 'judge' | 'judgeOutbound'> {
  /** Whether one into the pod has come by the way that it must come by now. */
  judgeWay(connection: Connection, pod: LocalPod): Refusal | undefined
}

export class PolicyReview {
  readonly #open: OpenConnections
  readonly #gate: Reviewer
  /** Pods whose connections are to be asked about. */
  readonly #due = new Set<PodUid>()
  /** Addresses whose connections are to be asked about, whatever pod has them. */
  #duePeers = new Set<IpAddress>()
  /** Pods a policy of which may still come, and when it is too late for that. */
  readonly #later = new Map<PodUid, NodeJS.Timeout>()
  #walk: Iterator<undefined> | undefined
  #turn: NodeJS.Immediate | undefined

  constructor(open: OpenConnections, gate: Reviewer) {
    this.#open = open
    this.#gate = gate
  }

  /** Sees to these pods soon: once, however often this is called until then. */
  schedule(pods: Iterable<PodUid>): void {
    for (const uid of pods) this.#due.add(uid)
    if (this.#due.size > 0) this.#turn ??= setImmediate(() => this.#takeTurn())
  }

  /** Sees to the connections from and to these addresses soon. */
  schedulePeers(addresses: Iterable<IpAddress>): void {
    for (const address of addresses) this.#duePeers.add(address)
    if (this.#duePeers.size > 0) this.#turn ??= setImmediate(() => this.#takeTurn())
  }

  close(): void {
    clearImmediate(this.#turn)
    for (const timer of this.#later.values()) clearTimeout(timer)
    this.#later.clear()
  }

  #takeTurn(): void {
    this.#turn = undefined
    this.#walk ??= this.#all()
    for (let asked = 0; asked < CONNECTIONS_A_TURN; asked += 1)
      if (this.#walk.next().done === true) {
        this.#walk = undefined
        return
      }
    this.#turn = setImmediate(() => this.#takeTurn())
  }

  /** One step for each connection. A pod that changes meanwhile is walked again, after the others. */
  *#all(): Generator<undefined> {
    for (const uid of this.#due) {
      this.#due.delete(uid)
      clearTimeout(this.#later.get(uid))
      this.#later.delete(uid)
      for (const { pod, drain } of this.#open) {
        if (pod.uid !== uid) continue
        for (const connection of drain) {
          this.#ask(connection, pod)
          yield
        }
      }
    }
    yield* this.#ofPeers()
  }

  *#ofPeers(): Generator<undefined> {
    const peers = this.#duePeers
    if (peers.size === 0) return
    this.#duePeers = new Set()
    for (const { pod, drain } of this.#open)
      for (const connection of drain) {
        if (hasPeer(connection, peers)) this.#ask(connection, pod)
        yield
      }
  }

  #ask(connection: Connection, pod: LocalPod): void {
    const refusal = this.#refusalOf(connection, pod)
    if (refusal === undefined) return
    if (refusal.pendingUntilMs !== undefined) return this.#askLater(pod.uid, refusal.pendingUntilMs)
    connection.forbid(refusal)
  }

  #refusalOf(connection: Connection, pod: LocalPod): Refusal | undefined {
    const { call, outboundCall } = connection
    if (call !== undefined)
      return this.#gate.judge(call, pod) ?? this.#gate.judgeWay(connection, pod)
    return outboundCall && this.#gate.judgeOutbound(outboundCall, pod)
  }

  /** It was let in by what was known then, and the news that is awaited may be the same: it stays until that is too late. */
  #askLater(uid: PodUid, atMs: number): void {
    if (this.#later.has(uid)) return
    const timer = setTimeout(
      () => {
        this.#later.delete(uid)
        this.schedule([uid])
      },
      Math.max(0, atMs - performance.now()),
    )
    this.#later.set(uid, timer.unref())
  }
}

function hasPeer({ call, outboundCall }: Connection, peers: ReadonlySet<IpAddress>): boolean {
  if (call !== undefined) return peers.has(call.peer.address)
  return outboundCall?.targets.some(({ address }) => peers.has(address)) === true
}
