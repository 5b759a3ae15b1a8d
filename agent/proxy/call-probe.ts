// SPDX-License-Identifier: Apache-2.0
// Really makes a call of a pod's, as its app would, and tells what came of it: by a socket of the pod's namespace that capture meets as
// it meets the app's. Nothing is sent over it; it is closed as soon as it stands.

import type { IpAddress, SocketAddress } from '../../mesh/model/types.ts'
import { familyOf, formatSocketAddress } from '../../mesh/model/address.ts'
import type {
  ConnectionAbout,
  ConnectionSecurity,
  DecidedBy,
} from '../../mesh/telemetry/connection-record.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import { socketFd } from '../../mesh/relay/last-descriptors.ts'
import type { DataPlaneSockets } from '../capture/types.ts'
import type { Connection } from './connection.ts'
import type { LocalPod } from './local-pod.ts'
import type { PodConnections } from './open-connections.ts'
import { unconnectedSocket } from './upstream.ts'

/** What to call, and how long to wait until the connection stands or is refused. */
export interface CallProbe {
  readonly address: IpAddress
  readonly port: number
  readonly timeoutMs: number
}

/** What the pod's agent made of the call. */
export interface SeenCall {
  /** The address dialled: the peer's HBONE port for tunnels. */
  readonly dialled?: string
  /** The address asked for inside the tunnel. */
  readonly hboneTarget?: string
  readonly security: ConnectionSecurity
  /** The called workload as `namespace/name`, and what it has proven. */
  readonly workload?: string
  readonly peerIdentity?: string
  /** Why it ended, where it did before it stood. */
  readonly reason?: EndReason
  readonly message?: string
  readonly decidedBy?: DecidedBy
}

/** What came of it. */
export interface ProbedCall {
  /** `connected`: both legs stand, up to the called app. */
  readonly outcome: 'connected' | 'refused' | 'timedOut'
  readonly tookMs: number
  /** What connect() said, where the kernel refused. */
  readonly error?: string
  /** Left out where the call did not pass the agent. */
  readonly seen?: SeenCall
}

/** The far end may keep its half open: nothing waits for it. */
const CLOSE_MS = 1_000

/**
 * Makes the call. Throws where the socket cannot be made, and while another call of the pod is under way: its connections have one
 * onlooker.
 */
export async function probeCall(
  sockets: Pick<DataPlaneSockets, 'openAsApp' | 'isCaptured'>,
  pod: LocalPod,
  connections: PodConnections,
  { address, port, timeoutMs }: CallProbe,
): Promise<ProbedCall> {
  if (connections.witness !== undefined) throw new Error('another call of the pod is being tried')
  const opened = sockets.openAsApp({ netnsFd: pod.netnsFd, family: familyOf(address) })
  if (!opened.ok) throw opened.error
  const socket = unconnectedSocket(opened.value)
  const startedAt = performance.now()
  const { promise, resolve } = Promise.withResolvers<Omit<ProbedCall, 'tookMs'>>()
  let ownPort: number | undefined
  const isOurs = ({ about, called }: Connection): boolean =>
    ownPort !== undefined &&
    about.direction === 'outbound' &&
    about.sourceAddress?.port === ownPort &&
    isSame(called, { address, port })
  connections.witness = {
    opened: (connection) => {
      if (isOurs(connection)) resolve({ outcome: 'connected', seen: seenOf(connection.about) })
    },
    ended: (connection, reason, message, by) => {
      if (!isOurs(connection)) return
      const seen = { ...seenOf(connection.about), reason, ...(message && { message }) }
      resolve({ outcome: 'refused', seen: by === undefined ? seen : { ...seen, decidedBy: by } })
    },
  }
  const timer = setTimeout(() => {
    const waiting = [...connections.drain].find(isOurs)
    resolve({ outcome: 'timedOut', ...(waiting && { seen: seenOf(waiting.about) }) })
  }, timeoutMs)
  socket.once('connect', () => {
    // Of one that is captured, the kernel's word says no more than that the agent listens.
    const fd = socketFd(socket)
    if (fd !== undefined && !sockets.isCaptured(fd)) resolve({ outcome: 'connected' })
  })
  socket.on('error', (error: NodeJS.ErrnoException) =>
    resolve({ outcome: 'refused', error: error.code ?? error.message }),
  )
  socket.connect({ host: address, port })
  // Node calls connect() in the next tick; no event of the network comes between that and this.
  process.nextTick(() => {
    ownPort = socket.localPort
  })
  try {
    return { ...(await promise), tookMs: Math.round(performance.now() - startedAt) }
  } finally {
    clearTimeout(timer)
    connections.witness = undefined
    // By FIN, as an app that has nothing to say: what the server says must be read, or the kernel would reset.
    socket.resume().end()
    setTimeout(() => socket.destroy(), CLOSE_MS).unref()
  }
}

function isSame(one: SocketAddress | undefined, other: SocketAddress): boolean {
  return one !== undefined && one.address === other.address && one.port === other.port
}

function seenOf(about: ConnectionAbout): SeenCall {
  const { destination, destinationAddress, hboneTarget, security } = about
  const { namespace, name, identity } = destination
  return {
    ...(destinationAddress && { dialled: formatSocketAddress(destinationAddress) }),
    ...(hboneTarget && { hboneTarget: formatSocketAddress(hboneTarget) }),
    security,
    ...(name !== undefined && { workload: `${namespace ?? ''}/${name}` }),
    ...(identity !== undefined && { peerIdentity: identity }),
  }
}
