// SPDX-License-Identifier: Apache-2.0
// What the handlers of one pod's connections share, and small steps they all take.

import type { Socket } from 'node:net'
import type { HbonePool } from '../../mesh/hbone/types.ts'
import { socketAddressOf } from '../../mesh/model/address.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type { SocketAddress } from '../../mesh/model/types.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { LogBudget } from '../../mesh/telemetry/log-budget.ts'
import type { DataPlaneSockets } from '../capture/types.ts'
import { Connection, type ConnectionFacts } from './connection.ts'
import type { LocalPod, LocalPods } from './local-pod.ts'
import { cutReason, type Relay } from '../../mesh/relay/relay.ts'
import type { TrafficCounters } from './traffic-counters.ts'

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
  readonly pool: HbonePool
  readonly relay: Relay
  readonly accessLog: Logger
  readonly counters: TrafficCounters
  readonly open: Set<Connection>
  /** Connections the pod may have open at once, both directions together. */
  readonly maxConnections: number
  readonly accessBudget: LogBudget
  /** Aborted when the pod's connections are cut: none begins any more. Each has a signal of its own to listen on. */
  readonly signal: AbortSignal
}

/** Begins the record of a connection of this pod. */
export function beginConnection(context: PodContext, facts: ConnectionFacts): Connection {
  const connection = new Connection(facts, context)
  if (context.signal.aborted) connection.cut(cutReason(context.signal))
  return connection
}

/** Whether the pod has more connections than it may; the one just begun counts. */
export function isOverLimit({ open, maxConnections }: PodContext): boolean {
  return open.size > maxConnections
}

/** The far end of an accepted socket; undefined when it is gone already. */
export function remoteAddress(socket: Socket): SocketAddress | undefined {
  return socketAddressOf(socket.remoteAddress, socket.remotePort)
}

/** The near end of an accepted socket: with sk_lookup, the address the client dialled. */
export function localAddress(socket: Socket): SocketAddress | undefined {
  return socketAddressOf(socket.localAddress, socket.localPort)
}

/**
 * Joins both legs and writes the connection's end. The one place where payload begins to flow.
 */
export async function relayToEnd(
  context: PodContext,
  connection: Connection,
  downstream: Parameters<Relay['join']>[0],
  upstream: Parameters<Relay['join']>[1],
): Promise<void> {
  connection.established()
  const result = await context.relay.join(downstream, upstream, connection.signal, (read) =>
    connection.metered(read),
  )
  connection.finish({
    reason: result.end,
    bytesToUpstream: result.bytesToUpstream,
    bytesToDownstream: result.bytesToDownstream,
  })
}
