// SPDX-License-Identifier: Apache-2.0
// Opens connections on behalf of pods: capture makes the socket inside the right namespace (exempt from capture,
// perhaps with the client's source address), Node connects it. Also turns listening fds into servers.

import { createServer, type Server, Socket, type SocketConstructorOpts } from 'node:net'
import { errorMessage } from '../../mesh/errors.ts'
import type { HboneFailure } from '../../mesh/hbone/types.ts'
import { familyOf, formatSocketAddress } from '../../mesh/model/address.ts'
import type { IpAddress, SocketAddress } from '../../mesh/model/types.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import { closeFd } from '../../native/libc.ts'
import type { DataPlaneSockets } from '../capture/types.ts'

/** A peer that does not answer a SYN in this time is taken for unreachable, as Istio does. */
const CONNECT_TIMEOUT_MS = 10_000

/**
 * The app's kernel is the agent's own and answers a SYN at once, if it can. It cannot where the port that was chosen is the
 * client's own, of another captured connection to the same port of the pod: the SYN meets the agent's accepted socket, and is
 * not answered. Whoever has no answer after this tries from another port; one that waits for a full backlog loses nothing.
 */
const FIRST_DIAL_MS = 250
const TIMED_OUT = 'ETIMEDOUT'

/**
 * What the kernel is to do is not among them: the native call that makes a socket sets keepalive and TCP_NODELAY, and accepted
 * ones have them from their listener.
 */
export const SOCKET_OPTIONS = { allowHalfOpen: true } as const

/** `manualStart` is Node's (undocumented in the types): without it Node reads from the fd before it is connected. */
interface UnconnectedSocketOptions extends SocketConstructorOpts {
  readonly manualStart: true
}

export interface UpstreamRequest {
  readonly netnsFd: number
  readonly destination: SocketAddress
  /** Connect from this address (transparent): the app then sees its real client. */
  readonly sourceIp?: IpAddress
  /** Which end reason a time-out means here: for HBONE it hints at a NetworkPolicy. */
  readonly timeoutReason?: EndReason
  readonly timeoutMs?: number
}

/** A failure with the system's code for it, where it has one. */
interface ConnectFailure extends HboneFailure {
  readonly code?: string | undefined
}

/** Opens and connects a socket for a pod. The signal closes it at any moment before it is connected. */
export async function connectUpstream(
  sockets: DataPlaneSockets,
  request: UpstreamRequest,
  signal: AbortSignal,
): Promise<Result<Socket, HboneFailure>> {
  const { sourceIp, timeoutMs = CONNECT_TIMEOUT_MS } = request
  const firstMs = sourceIp === undefined ? timeoutMs : Math.min(FIRST_DIAL_MS, timeoutMs)
  const first = await connectOnce(sockets, request, firstMs, signal)
  if (first.ok) return first
  // The kernel chose a source port that another connection took meanwhile: a second choice is another one.
  if (first.error.code === 'EADDRNOTAVAIL') return connectOnce(sockets, request, timeoutMs, signal)
  if (first.error.code !== TIMED_OUT || firstMs === timeoutMs) return first
  return connectOnce(sockets, request, timeoutMs - firstMs, signal)
}

function connectOnce(
  sockets: DataPlaneSockets,
  request: UpstreamRequest,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Result<Socket, ConnectFailure>> {
  const { destination, sourceIp, netnsFd } = request
  if (signal.aborted)
    return Promise.resolve(err({ reason: 'drained', message: 'aborted before connecting' }))
  const opened = sockets.openUpstream({
    netnsFd,
    family: familyOf(destination.address),
    ...(sourceIp === undefined ? {} : { sourceIp }),
  })
  if (!opened.ok)
    return Promise.resolve(err({ reason: 'connectFailed', message: opened.error.message }))
  const options: UnconnectedSocketOptions = {
    ...SOCKET_OPTIONS,
    fd: opened.value,
    manualStart: true,
  }
  let socket: Socket
  try {
    socket = new Socket(options)
  } catch (thrown) {
    // Node took the fd over only if it made the socket.
    closeFd(opened.value)
    return Promise.resolve(err({ reason: 'internal', message: errorMessage(thrown) }))
  }
  return new Promise((resolve) => {
    let isSettled = false
    const settle = (result: Result<Socket, ConnectFailure>): void => {
      if (isSettled) return
      isSettled = true
      clearTimeout(deadline)
      signal.removeEventListener('abort', onAbort)
      socket.off('connect', onConnect)
      socket.off('error', onError)
      if (!result.ok) {
        // Whatever the dying socket still says has been reported already.
        socket.on('error', ignoreLateError)
        socket.destroy()
      }
      resolve(result)
    }
    const onConnect = (): void => settle(ok(socket))
    const onError = (error: NodeJS.ErrnoException): void =>
      settle(err({ reason: 'connectFailed', message: error.message, code: error.code }))
    const onAbort = (): void =>
      settle(err({ reason: 'drained', message: 'connection attempt aborted' }))
    const onTimeout = (): void =>
      settle(
        err({
          reason: request.timeoutReason ?? 'connectFailed',
          message: `connect to ${formatSocketAddress(destination)} timed out`,
          code: TIMED_OUT,
        }),
      )
    // After a look at the sockets: a thread that was held up must not take its own lateness for the peer's.
    const deadline = setTimeout(() => setImmediate(onTimeout), timeoutMs)
    signal.addEventListener('abort', onAbort)
    socket.on('connect', onConnect)
    socket.on('error', onError)
    socket.connect({ host: destination.address, port: destination.port })
  })
}

/** A listener for 'error' on a socket whose fate is already decided: Node would otherwise throw. */
function ignoreLateError(): void {
  // Deliberately nothing: the owner has logged the connection's end with its reason.
}

/** Serves an already listening fd. Accepted sockets are paused: nothing is read before the decision is made. */
export function serveListeningFd(
  fd: number,
  onConnection: (socket: Socket) => void,
): Promise<Server> {
  const server = createServer({ ...SOCKET_OPTIONS, pauseOnConnect: true }, (socket) => {
    socket.on('error', ignoreLateError)
    onConnection(socket)
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ fd }, () => {
      server.off('error', reject)
      resolve(server)
    })
  })
}
