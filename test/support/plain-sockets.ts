// SPDX-License-Identifier: Apache-2.0
// The relay's own sockets, of both kinds that there are: Node's, and those of the native engine.

import { once } from 'node:events'
import { type AddressInfo, createServer, Socket } from 'node:net'
import type { Test } from 'tap'
import { serveThin, thinDialler } from '../../agent/proxy/thin-sockets.ts'
import { SOCKET_OPTIONS } from '../../agent/proxy/upstream.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import type { SocketEngine } from '../../mesh/relay/socket-engine.ts'
import type { PlainSocket, ThinSocket } from '../../mesh/relay/thin-socket.ts'
import { addressBytes } from '../../native/libc.ts'
import { socketEngine } from './engine.ts'
import { openSocket } from '../../native/socket-spec.ts'

export const KINDS = ['node', 'native'] as const
export type Kind = (typeof KINDS)[number]

const LOOPBACK = '127.0.0.1' as IpAddress
const BACKLOG = 4096

export function requiredEngine(): SocketEngine {
  const engine = socketEngine()
  if (engine === undefined) throw new Error('native/build/ambit-sockets.node was not built')
  return engine
}

/** Listens on a port of loopback, which it gives; accepted sockets are paused. */
export async function listenPlain(
  t: Test,
  kind: Kind,
  onSocket: (socket: PlainSocket) => void,
): Promise<number> {
  if (kind === 'native') {
    const engine = requiredEngine()
    const fd = openSocket({
      family: 4,
      kind: 'tcp',
      options: ['noDelay'],
      bind: { address: addressBytes(LOOPBACK), port: 0 },
      backlog: BACKLOG,
    })
    const port = Number.parseInt(engine.address(fd, 'local') ?? '', 10)
    const server = serveThin(engine, fd, onSocket, (code) => t.fail(`accept failed: ${code}`))
    t.teardown(() => server.close())
    return port
  }
  const server = createServer({ ...SOCKET_OPTIONS, pauseOnConnect: true }, (socket) => {
    t.teardown(() => socket.destroy())
    onSocket(socket)
  })
  server.listen({ port: 0, host: LOOPBACK, backlog: BACKLOG })
  await once(server, 'listening')
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

/** Connects to a port of loopback. */
export async function connectPlain(t: Test, kind: Kind, port: number): Promise<PlainSocket> {
  if (kind === 'native') return await connectThin(port)
  const socket = new Socket(SOCKET_OPTIONS)
  t.teardown(() => socket.destroy())
  socket.connect(port, LOOPBACK)
  await once(socket, 'connect')
  return socket
}

async function connectThin(port: number): Promise<ThinSocket> {
  const fd = openSocket({ family: 4, kind: 'tcp', options: ['noDelay'] })
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const socket = thinDialler(requiredEngine()).dial(fd, { address: LOOPBACK, port }, (failure) => {
    if (failure === undefined) resolve()
    else reject(new Error(failure.message))
  })
  await promise
  return socket
}
