// SPDX-License-Identifier: Apache-2.0
// An application in a pod (or outside): connects and serves when asked.

import { createServer, type Server, Socket } from 'node:net'
import { option, optionOf, type RawConnect, rawConnect, rawListen, signTo } from './raw-socket.ts'
import { serveRpc } from './rpc.ts'
import { socketFd } from '../../../mesh/relay/last-descriptors.ts'

export interface ServeRequest {
  readonly address: string
  readonly port: number
  readonly hold?: boolean
  /** Hears nobody at this address who does not sign. */
  readonly signTo?: string
  /** Answers with the port and segment size of the SYN that began the connection (TCP_SAVE_SYN). */
  readonly savesSyn?: boolean
  /** Accepts when there is something to read (TCP_DEFER_ACCEPT). */
  readonly defersAccept?: boolean
}

const IPPROTO_TCP = 6
const TCP_DEFER_ACCEPT = 9
const TCP_SAVE_SYN = 27
const TCP_SAVED_SYN = 28
const ONE = Buffer.from([1, 0, 0, 0])

function listeningFd(server: Server): number {
  return Number(Reflect.get(Object(Reflect.get(server, '_handle')), 'fd'))
}

/** Of IPv4; the first TCP option of a SYN is the segment size. */
function savedSyn(fd: number): string {
  const packet = optionOf(fd, IPPROTO_TCP, TCP_SAVED_SYN)
  const tcp = ((packet[0] ?? 0) & 15) * 4
  return `port ${packet.readUInt16BE(tcp)} segments ${packet.readUInt16BE(tcp + 22)}`
}

const servers: Server[] = []
const held: Socket[] = []
let isLoading = false
let loads = 0
let wantedLoads = Number.POSITIVE_INFINITY

serveRpc({
  connect: (wanted: RawConnect) => rawConnect(wanted),
  tryListen: ({ address, port }: { address: string; port: number }) => rawListen(address, port),
  setuid: (uid: number) => process.setuid?.(uid),
  /** Serves: says who called and ends, or with `hold` echoes and keeps the connection. */
  serve: ({ address, port, hold, signTo: peer, savesSyn, defersAccept }: ServeRequest) =>
    new Promise<void>((resolve, reject) => {
      const server = createServer((socket) => {
        socket.on('error', () => socket.destroy())
        if (savesSyn === true) socket.end(savedSyn(socketFd(socket) ?? -1))
        else if (hold === true) socket.pipe(socket)
        else socket.end(`app saw ${socket.remoteAddress} at ${socket.localAddress}`)
      })
      servers.push(server)
      server.once('error', reject)
      server.listen({ host: address, port, ipv6Only: address.includes(':') }, () => {
        const fd = listeningFd(server)
        if (peer !== undefined) signTo(fd, peer)
        if (savesSyn === true) option(fd, IPPROTO_TCP, TCP_SAVE_SYN, ONE)
        if (defersAccept === true) option(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, ONE)
        resolve()
      })
    }),
  /** Opens a connection and keeps it; gives its index. */
  hold: ({ address, port, localPort }: { address: string; port: number; localPort?: number }) =>
    new Promise<number>((resolve, reject) => {
      const socket = new Socket({ allowHalfOpen: true })
      socket.once('error', reject)
      const from = localPort === undefined ? {} : { localPort }
      socket.connect({ port, host: address, ...from }, () => resolve(held.push(socket) - 1))
    }),
  /** Sets an option of a kept connection. */
  ask: ({ index, level, name, value }: Record<'index' | 'level' | 'name' | 'value', number>) => {
    const socket = held[index]
    const bytes = Buffer.alloc(4)
    bytes.writeInt32LE(value)
    option((socket && socketFd(socket)) ?? -1, level, name, bytes)
  },
  /** Waits until a kept connection has ended, and says by which error. */
  ended: (index: number) =>
    new Promise<string>((resolve) => {
      const socket = held[index]
      let reason = 'closed'
      socket?.on('error', (error) => {
        reason = 'code' in error ? String(error.code) : error.message
      })
      socket?.on('close', () => resolve(reason))
      socket?.resume()
    }),
  /** Begins this many connections to ports of the address and keeps them, whatever becomes of them. */
  flood: async ({ address, count }: { address: string; count: number }) => {
    for (let index = 0; index < count; index += 1) {
      const socket = new Socket()
      socket.on('error', () => undefined)
      socket.connect(1 + index, address)
      held.push(socket)
      if (index % 500 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
  },
  /** Sends over a kept connection and gives what comes back. */
  echo: ({ index, text }: { index: number; text: string }) =>
    new Promise<string>((resolve, reject) => {
      const socket = held[index]
      if (socket === undefined) throw new Error(`no connection ${index}`)
      socket.once('error', reject)
      socket.once('data', (data) => resolve(data.toString()))
      socket.write(text)
    }),
  /** Connects as often as it can until told to stop; counts outcomes. */
  load: async ({ address, port }: { address: string; port: number }) => {
    const outcomes: Record<string, number> = {}
    isLoading = true
    loads = 0
    wantedLoads = Number.POSITIVE_INFINITY
    while (isLoading) {
      const outcome = await new Promise<string>((resolve) => {
        const socket = new Socket()
        let text = ''
        socket.on('data', (data) => {
          text += data.toString()
        })
        socket.once('error', (error) =>
          resolve('code' in error ? String(error.code) : error.message),
        )
        socket.once('end', () => resolve(text === '' ? 'empty' : 'answered'))
        socket.connect(port, address)
      })
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
      loads += 1
      if (loads >= wantedLoads) isLoading = false
    }
    return outcomes
  },
  /** Ends the load once it has made so many connections. */
  stopLoad: (least = 0) => {
    wantedLoads = least
    if (loads >= least) isLoading = false
  },
  close: () => {
    for (const server of servers.splice(0)) server.close()
    for (const socket of held.splice(0)) socket.destroy()
  },
})
