// SPDX-License-Identifier: Apache-2.0
// Makes TCP connections from the waypoint's own pod, each against a deadline.

import { connect, type Socket } from 'node:net'
import type { CutSignal } from '../../mesh/async/cut.ts'
import type { HboneFailure } from '../../mesh/hbone/types.ts'
import { formatSocketAddress } from '../../mesh/model/address.ts'
import type { SocketAddress } from '../../mesh/model/types.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'

export interface DialOptions {
  readonly timeoutMs: number
  /** What a time-out hints at. */
  readonly timeoutReason: EndReason
}

export type Dial = (
  destination: SocketAddress,
  options: DialOptions,
  signal: CutSignal,
) => Promise<Result<Socket, HboneFailure>>

/** Connects; aborting the signal gives up at any moment before it stands, and leaves nothing open. */
export const dial: Dial = (destination, { timeoutMs, timeoutReason }, signal) => {
  if (signal.aborted) return Promise.resolve(err(abandoned()))
  return new Promise((resolve) => {
    const socket = connect({
      host: destination.address,
      port: destination.port,
      noDelay: true,
      allowHalfOpen: true,
      // The kernel finds a peer that vanished while nothing is under way.
      keepAlive: true,
    })
    const settle = (result: Result<Socket, HboneFailure>): void => {
      clearTimeout(deadline)
      signal.removeEventListener('abort', onAbort)
      socket.off('connect', onConnect)
      socket.off('error', onError)
      if (!result.ok) {
        // What the dying socket still says is no news.
        socket.on('error', () => undefined)
        socket.destroy()
      }
      resolve(result)
    }
    const onConnect = (): void => settle(ok(socket))
    const onError = ({ message, code }: NodeJS.ErrnoException): void =>
      settle(err({ reason: 'connectFailed', message, code }))
    const onAbort = (): void => settle(err(abandoned()))
    const onTimeout = (): void =>
      settle(
        err({
          reason: timeoutReason,
          message: `connect to ${formatSocketAddress(destination)} timed out`,
          code: 'ETIMEDOUT',
        }),
      )
    // After a look at the sockets: a thread that was held up must not take its own lateness for the peer's.
    const deadline = setTimeout(() => setImmediate(onTimeout), timeoutMs)
    signal.addEventListener('abort', onAbort)
    socket.on('connect', onConnect)
    socket.on('error', onError)
  })
}

function abandoned(): HboneFailure {
  return { reason: 'clientReset', message: 'the caller gave up before the connection was made' }
}
