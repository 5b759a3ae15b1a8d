// SPDX-License-Identifier: Apache-2.0
// An application behind two relays, as in the mesh: client socket -> splice -> HBONE -> splice -> application.

import { once } from 'node:events'
import { type AddressInfo, type Socket, connect, createServer } from 'node:net'
import type { Test } from 'tap'
import type { BareTunnel } from '../../mesh/hbone/types.ts'
import { relay } from '../support/relay.ts'
import type { PlainSocket } from '../../mesh/relay/thin-socket.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import { connectPlain, type Kind, listenPlain } from '../support/plain-sockets.ts'
import { type World, type WorldOptions, makeWorld } from './harness.ts'

export interface RelayedApp {
  readonly world: World
  /** A client socket that believes to talk to the application. */
  connect(): Promise<Socket>
  /** Where clients call it. */
  readonly port: number
  /** The outbound relays' own ends of the clients' connections. */
  readonly near: readonly PlainSocket[]
  /** How the outbound splices ended, in the order they began. */
  readonly outbound: Promise<SpliceOutcome>[]
  readonly inbound: Promise<SpliceOutcome>[]
}

/** Puts `app`, called with each socket it accepts, behind an inbound and an outbound relay. */
export async function relayApp(
  t: Test,
  app: (socket: Socket) => void,
  options: WorldOptions = {},
  kind: Kind = 'node',
): Promise<RelayedApp> {
  const outbound: Promise<SpliceOutcome>[] = []
  const inbound: Promise<SpliceOutcome>[] = []
  const appPort = await listen(t, app)
  const world = await makeWorld(t, {
    ...options,
    onTunnel: (incoming) => {
      void connectPlain(t, kind, appPort).then((upstream) =>
        inbound.push(splice(upstream, incoming.acceptBare({}), 'server')),
      )
    },
  })
  const near: PlainSocket[] = []
  const entry = async (socket: PlainSocket): Promise<void> => {
    near.push(socket)
    const { bare } = await world.open()
    outbound.push(splice(socket, bare, 'client'))
  }
  const entryPort = await listenPlain(t, kind, (socket) => void entry(socket))
  return {
    world,
    port: entryPort,
    near,
    outbound,
    inbound,
    connect: async () => {
      const socket = connect({ port: entryPort, host: '127.0.0.1', allowHalfOpen: true })
      t.teardown(() => socket.destroy())
      await once(socket, 'connect')
      return socket
    },
  }
}

/** Everything up to the peer's half-close; unlike stream/consumers it leaves the writing side open. */
export async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  await once(socket, 'end')
  return Buffer.concat(chunks)
}

/** What came of a splice, as its socket sees it. */
interface SpliceOutcome {
  readonly sent: number
  readonly received: number
  readonly end: EndReason
}

/** Joins a socket to a tunnel: that of the caller, or that to the application. */
export async function splice(
  socket: PlainSocket,
  tunnel: BareTunnel,
  role: 'client' | 'server',
): Promise<SpliceOutcome> {
  const isClient = role === 'client'
  const { bytesToUpstream, bytesToDownstream, end } = await (isClient
    ? relay(socket, tunnel)
    : relay(tunnel, socket))
  return isClient
    ? { sent: bytesToUpstream, received: bytesToDownstream, end }
    : { sent: bytesToDownstream, received: bytesToUpstream, end }
}

async function listen(t: Test, onSocket: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    onSocket(socket)
  })
  server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 })
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as AddressInfo).port
}
