// SPDX-License-Identifier: Apache-2.0
// What the handlers of one pod's connections share, and small steps they all take.

import type { CutSignal } from '../../mesh/async/cut.ts'
import type { TrustPolicy } from '../../mesh/identity/trust-policy.ts'
import { socketAddressOf } from '../../mesh/model/address.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type { SocketAddress, SpiffeId } from '../../mesh/model/types.ts'
import type { DataPlaneSockets } from '../capture/types.ts'
import type { Gate } from './admission.ts'
import type { Attempt, EndpointExperience } from '../../mesh/balance/endpoint-experience.ts'
import type { Metered, RelayResult } from '../../mesh/relay/relay-result.ts'
import { type PlainSocket, ThinSocket } from '../../mesh/relay/thin-socket.ts'
import type { Carried, Carrier, Downstream } from './carrier.ts'
import type { Connection } from './connection.ts'
import type { LocalPod, LocalPods } from './local-pod.ts'
import type { OpenConnections, PodConnections } from './open-connections.ts'

/** The mesh state of a worker and whether the first full picture has arrived. */
export interface WorkerMesh {
  readonly state: MeshState
  /** Resolves true once the first sync is complete, false when the time is over. Costs nothing once synced. */
  whenSynced(timeoutMs: number): Promise<boolean>
  readonly isSynced: boolean
}

/** Everything a pod's handlers need; made once per pod. */
export interface PodContext {
  readonly pod: LocalPod
  readonly sockets: DataPlaneSockets
  readonly mesh: WorkerMesh
  readonly localPods: LocalPods
  readonly trust: TrustPolicy
  readonly gate: Gate
  readonly carrier: Carrier
  /** Of this stay of the pod. */
  readonly connections: PodConnections
  readonly experience: EndpointExperience
  /** Of all pods: a call inside the node is filed under both its ends. */
  readonly open: OpenConnections
}

/** The far end of an accepted socket; undefined when it is gone already. */
export function remoteAddress(socket: PlainSocket): SocketAddress | undefined {
  if (socket instanceof ThinSocket) return socket.address('remote')
  return socketAddressOf(socket.remoteAddress, socket.remotePort)
}

/** The near end of an accepted socket: with sk_lookup, the address the client dialled. */
export function localAddress(socket: PlainSocket): SocketAddress | undefined {
  if (socket instanceof ThinSocket) return socket.address('local')
  return socketAddressOf(socket.localAddress, socket.localPort)
}

/** Who else hears of a call: the other record of one inside the node, and the try of an endpoint that it is. */
export interface CallListeners {
  readonly arrival?: Connection
  readonly attempt?: Attempt | undefined
}

/** A call for the carrier; what it hears of it, it tells the connection, and those who listen. Hot: one for each try. */
export class CarriedCall implements Carried {
  #downstream: Downstream | undefined
  readonly #connection: Connection
  readonly #arrival: Connection | undefined
  readonly #attempt: Attempt | undefined

  constructor(downstream: Downstream, connection: Connection, listeners: CallListeners = {}) {
    this.#downstream = downstream
    this.#connection = connection
    this.#arrival = listeners.arrival
    this.#attempt = listeners.attempt
  }

  get downstream(): Downstream {
    if (this.#downstream === undefined) throw new Error('the call is carried already')
    return this.#downstream
  }

  get signal(): CutSignal {
    return this.#connection.signal
  }

  opened(peerIdentity: SpiffeId | undefined): void {
    // How it came is of no use any more, and holds a request and its headers.
    this.#downstream = undefined
    this.#connection.opened(peerIdentity)
    this.#arrival?.opened(peerIdentity)
    this.#attempt?.opened()
  }

  metered(running: Metered): void {
    this.#connection.metered(running)
    this.#arrival?.metered(running)
  }

  ended(result: RelayResult): void {
    // Not under the hands of whoever ends it: one who cuts many goes by counts and lists that it would change.
    queueMicrotask(() => {
      this.#arrival?.finish(result.end, result)
      this.#attempt?.end()
      this.#connection.finish(result.end, result)
    })
  }
}
