// SPDX-License-Identifier: Apache-2.0
// Opens connections on behalf of pods: capture makes the socket inside the right namespace (exempt from capture,
// perhaps with the client's source address), Node connects it. Also turns listening fds into servers.

import type { CutSignal } from '../../mesh/async/cut.ts'
import { createServer, type Server, Socket, type SocketConstructorOpts } from 'node:net'
import { errorMessage } from '../../mesh/errors.ts'
import type { HboneFailure } from '../../mesh/hbone/types.ts'
import { familyOf, formatSocketAddress } from '../../mesh/model/address.ts'
import type { IpAddress, SocketAddress } from '../../mesh/model/types.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import { closeFd } from '../../native/libc.ts'
import { NativeError } from '../../native/error.ts'
import type { AskedOptions, DataPlaneSockets, OwnSource, UpstreamSource } from '../capture/types.ts'
import type { SourcePorts } from './source-ports.ts'

/**
 * The app's kernel is the agent's own and answers a SYN at once, if it can. It cannot where a client's SYN from the very port that
 * was chosen came at the same moment. Whoever has no answer after this tries from another port, and waits as long as the kernel
 * does: one that waits for a full backlog loses nothing.
 */
const FIRST_DIAL_MS = 250
/** Ports tried at most. Each is refused at once where a client has it, which is seldom; this many only where somebody is after it. */
const MAX_PORTS = 32
const TIMED_OUT = 'ETIMEDOUT'
/** The port is somebody's, at bind() or at connect(). */
const PORT_TAKEN: ReadonlySet<string | undefined> = new Set(['EADDRINUSE', 'EADDRNOTAVAIL'])
/** How connect() says it of a client's before 5.18. */
const REFUSED_BY_HOOK = 'EPERM'

/**
 * What the kernel is to do is not among them: the native call that makes a socket sets keepalive and TCP_NODELAY, and accepted
 * ones have them from their listener.
 */
export const SOCKET_OPTIONS = { allowHalfOpen: true } as const

/** `manualStart` is Node's (undocumented in the types): without it Node reads from the fd before it is connected. */
interface UnconnectedSocketOptions extends SocketConstructorOpts {
  readonly manualStart: true
}

/** A client's address, so that the app sees who calls it; from a port that the client does not use. */
export interface ClientSource {
  readonly whose: 'client'
  readonly address: IpAddress
  readonly ports: Pick<SourcePorts, 'next'>
  /** What the client itself calls from, where it called in plaintext. */
  readonly clientPort: number | undefined
}

export type UpstreamSockets = Pick<DataPlaneSockets, 'openUpstream' | 'setOptions'>

export interface UpstreamRequest {
  readonly netnsFd: number
  readonly destination: SocketAddress
  /** Undefined: the pod's address, as its routing chooses. */
  readonly from?: ClientSource | OwnSource | undefined
  /** What the caller asked of its own socket before it connected. */
  readonly asked?: AskedOptions | undefined
  /** Which end reason a time-out means here: for HBONE it hints at a NetworkPolicy. */
  readonly timeoutReason?: EndReason
  /** Undefined: as long as the pod's kernel sends the SYN again (net.ipv4.tcp_syn_retries), about two minutes. */
  readonly timeoutMs?: number | undefined
}

/** Whoever connects sockets: Node, or an engine of our own (thin-sockets.ts). */
export interface Dialler<Dialled> {
  /** Starts to connect. The fd is the dialler's from now on; `done` hears once, never from within this call. */
  dial(fd: number, to: SocketAddress, done: (failure?: DialFailure) => void): Dialled
  /** Gives up a socket that has not connected. */
  abandon(socket: Dialled): void
}

export interface DialFailure {
  readonly code?: string | undefined
  readonly message: string
}

/** Opens and connects a socket of Node's for a pod. The signal closes it at any moment before it is connected. */
export function connectUpstream(
  sockets: UpstreamSockets,
  request: UpstreamRequest,
  signal: CutSignal,
): Promise<Result<Socket, HboneFailure>> {
  return connectBy(nodeDialler, sockets, request, signal)
}

/** As connectUpstream(), of the dialler's kind. */
export async function connectBy<Dialled>(
  dialler: Dialler<Dialled>,
  sockets: UpstreamSockets,
  request: UpstreamRequest,
  signal: CutSignal,
): Promise<Result<Dialled, HboneFailure>> {
  const { from, timeoutMs } = request
  if (from === undefined || from.whose !== 'client') {
    const first = await connectOnce(dialler, sockets, request, from, timeoutMs, signal)
    if (first.ok || first.error.code === undefined || !PORT_TAKEN.has(first.error.code))
      return first
    // The port that the app chose may be kept from us, and the one that the kernel chose have been taken meanwhile.
    const anew = from && { ...from, port: 0 }
    return connectOnce(dialler, sockets, request, anew, timeoutMs, signal)
  }
  const { address, whose, ports, clientPort } = from
  let waitMs: number | undefined = Math.min(FIRST_DIAL_MS, timeoutMs ?? FIRST_DIAL_MS)
  for (let tried = 1; ; tried += 1) {
    const source = { address, whose, port: ports.next(clientPort) }
    const outcome = await connectOnce(dialler, sockets, request, source, waitMs, signal)
    if (outcome.ok || tried === MAX_PORTS) return outcome
    const { code } = outcome.error
    if (code === TIMED_OUT && waitMs === FIRST_DIAL_MS && waitMs !== timeoutMs)
      waitMs = timeoutMs === undefined ? undefined : timeoutMs - FIRST_DIAL_MS
    else if (!PORT_TAKEN.has(code) && code !== REFUSED_BY_HOOK) return outcome
  }
}

function connectOnce<Dialled>(
  dialler: Dialler<Dialled>,
  sockets: UpstreamSockets,
  request: UpstreamRequest,
  from: UpstreamSource | undefined,
  timeoutMs: number | undefined,
  signal: CutSignal,
): Promise<Result<Dialled, HboneFailure>> {
  const { destination, netnsFd } = request
  if (signal.aborted)
    return Promise.resolve(err({ reason: 'drained', message: 'aborted before connecting' }))
  const opened = sockets.openUpstream({
    netnsFd,
    family: familyOf(destination.address),
    ...(from !== undefined && { from }),
  })
  if (!opened.ok) {
    const { message, cause } = opened.error
    const code = cause instanceof NativeError ? cause.errnoName : undefined
    return Promise.resolve(err({ reason: 'connectFailed', message, code }))
  }
  const fd = opened.value
  try {
    if (request.asked !== undefined) sockets.setOptions(fd, request.asked)
  } catch (thrown) {
    closeFd(fd)
    return Promise.resolve(err({ reason: 'internal', message: errorMessage(thrown) }))
  }
  return new Promise((resolve) => {
    let isSettled = false
    let socket: Dialled
    const settle = (result: Result<Dialled, HboneFailure>): void => {
      if (isSettled) return
      isSettled = true
      clearTimeout(deadline)
      signal.removeEventListener('abort', onAbort)
      if (!result.ok) dialler.abandon(socket)
      resolve(result)
    }
    const onDone = (failure?: DialFailure): void =>
      settle(failure === undefined ? ok(socket) : err({ reason: 'connectFailed', ...failure }))
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
    try {
      socket = dialler.dial(fd, destination, onDone)
    } catch (thrown) {
      return resolve(err({ reason: 'internal', message: errorMessage(thrown) }))
    }
    // After a look at the sockets: a thread that was held up must not take its own lateness for the peer's.
    const deadline =
      timeoutMs === undefined ? undefined : setTimeout(() => setImmediate(onTimeout), timeoutMs)
    signal.addEventListener('abort', onAbort)
  })
}

const nodeDialler: Dialler<Socket> = {
  dial(fd, { address, port }, done) {
    const socket = unconnectedSocket(fd)
    socket.once('connect', () => {
      socket.off('error', onError)
      done()
    })
    const onError = ({ code, message }: NodeJS.ErrnoException): void => done({ code, message })
    socket.on('error', onError)
    socket.connect({ host: address, port })
    return socket
  },
  abandon(socket) {
    // Whatever the dying socket still says has been reported already.
    socket.on('error', ignoreLateError)
    socket.destroy()
  },
}

/** Node's socket for an fd that is to be connected. The fd is its from now on; closed where this throws. */
export function unconnectedSocket(fd: number): Socket {
  const options: UnconnectedSocketOptions = { ...SOCKET_OPTIONS, fd, manualStart: true }
  try {
    return new Socket(options)
  } catch (thrown) {
    // Node took the fd over only if it made the socket.
    closeFd(fd)
    throw thrown
  }
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
