// SPDX-License-Identifier: Apache-2.0
// An application in a pod (or outside): connects and serves when asked.

import { createServer, type Server, Socket } from 'node:net'
import { option, type RawConnect, rawConnect, rawListen } from './raw-socket.ts'
import { serveRpc } from './rpc.ts'
import { socketFd } from '../../../mesh/relay/last-descriptors.ts'

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
  serve: ({ address, port, hold }: { address: string; port: number; hold?: boolean }) =>
    new Promise<void>((resolve, reject) => {
      const server = createServer((socket) => {
        socket.on('error', () => socket.destroy())
        if (hold === true) socket.pipe(socket)
        else socket.end(`app saw ${socket.remoteAddress} at ${socket.localAddress}`)
      })
      servers.push(server)
      server.once('error', reject)
      server.listen({ host: address, port, ipv6Only: address.includes(':') }, resolve)
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
