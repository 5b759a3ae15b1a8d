// SPDX-License-Identifier: Apache-2.0
// A call between two pods of this node, and of a pod to itself: one relay, and yet two connections, one that the caller makes and one
// that arrives at the called pod. The arrival asks for admission, counts, is filed and told as if it had come by HBONE.

import type { SocketAddress } from '../../mesh/model/types.ts'
import type { InboundCall } from './admission.ts'
import type { Attempt } from '../../mesh/balance/endpoint-experience.ts'
import type { PlainSocket } from '../../mesh/relay/thin-socket.ts'
import type { Carriage } from './carrier.ts'
import { Connection } from './connection.ts'
import { clientAddress } from './decision/inbound.ts'
import { enter } from './entering.ts'
import type { LocalPod } from './local-pod.ts'
import { CarriedCall, type PodContext } from './pod-context.ts'

export interface SameNodeCall {
  /** The caller's address of the target's family: what the app sees. */
  readonly peer: SocketAddress
  readonly pod: LocalPod
  readonly target: SocketAddress
  /** As in a Way. */
  readonly timeoutMs: number | undefined
  /** Where the called pod was chosen of a Service's. */
  readonly attempt: Attempt | undefined
}

/** Carries `connection`, decided as a call inside the node, to its end; finishes the record of the arrival. */
export async function carrySameNode(
  context: PodContext,
  connection: Connection,
  socket: PlainSocket,
  { peer, pod, target, timeoutMs, attempt }: SameNodeCall,
): Promise<Carriage> {
  const destination = context.open.of(pod)
  const { about } = connection
  const arrival = new Connection(
    { ...about, direction: 'inbound', sourceAddress: peer },
    destination,
    connection,
  )
  const call: InboundCall = {
    peer,
    // Its namespace proves it, and the kernel told us that.
    peerIdentity: about.source.identity,
    destination: pod.uid,
    target,
    via: 'sameNode',
  }
  try {
    const entry = await enter(arrival, call, pod, destination, context.gate)
    if (entry.kind === 'refuse') {
      const { reason, message, by } = entry
      arrival.fail(reason, message, by)
      const where = `at ${pod.namespace}/${pod.name}`
      return { kind: 'unopened', failure: { reason, message: where } }
    }
    const address = clientAddress(peer, target)
    const way = {
      kind: 'app',
      pod: pod.uid,
      netnsFd: pod.netnsFd,
      target,
      // The caller's port is of its connection to its own agent, and says nothing of what it would call this pod from.
      client: address && { address, port: undefined },
      timeoutMs,
    } as const
    const carriage = await context.carrier.carry(
      new CarriedCall({ kind: 'socket', socket }, connection, { arrival, attempt }),
      way,
      entry.permit,
    )
    if (carriage.kind === 'carried') return carriage
    arrival.fail(carriage.failure.reason, carriage.failure.message)
    return carriage
  } catch (thrown) {
    // Only a bug throws.
    arrival.fail('internal')
    throw thrown
  }
}
