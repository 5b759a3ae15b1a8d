// SPDX-License-Identifier: Apache-2.0
// Accepting and connecting apps' sockets by an engine, in place of Node (upstream.ts).

import { getSystemErrorName } from 'node:util'
import type { SocketEngine } from '../../mesh/relay/socket-engine.ts'
import { DeafListener, ThinSocket } from '../../mesh/relay/thin-socket.ts'
import type { DialFailure, Dialler } from './upstream.ts'

/** Whatever accepts from a listening fd. */
export interface PlainServer {
  /** Accepts no more, and closes the fd. */
  close(): void
}

/** Serves an already listening fd, which is the server's from now on; `onFailure` hears of the system's code of an accept that failed. */
export function serveThin(
  engine: SocketEngine,
  fd: number,
  onConnection: (socket: ThinSocket) => void,
  onFailure: (code: string) => void,
): PlainServer {
  const id = engine.listen(fd, {
    accepted: (accepted) => onConnection(new ThinSocket(engine, accepted)),
    failed: (errno) => onFailure(getSystemErrorName(-errno)),
  })
  return { close: () => engine.close(id, false) }
}

/** Sockets that it has connected can be joined with those that the engine has accepted. */
export function thinDialler(engine: SocketEngine): Dialler<ThinSocket> {
  return {
    dial(fd, { address, port }, done) {
      const told = (errno: number): void =>
        done(errno === 0 ? undefined : failure(errno, address, port))
      const id = engine.connect(fd, address, port, new Dial(told))
      // Refused at once: whoever dials has its socket before it hears of that.
      if (id < 0) queueMicrotask(() => told(-id))
      return new ThinSocket(engine, fd, id)
    },
    abandon: (socket) => socket.close(),
  }
}

class Dial extends DeafListener {
  readonly #told: (errno: number) => void

  constructor(told: (errno: number) => void) {
    super()
    this.#told = told
  }

  override connected(errno: number): void {
    this.#told(errno)
  }
}

function failure(errno: number, address: string, port: number): DialFailure {
  const code = getSystemErrorName(-errno)
  return { code, message: `connect ${code} ${address}:${port}` }
}
