// SPDX-License-Identifier: Apache-2.0
// A server for the traffic stories: one TCP port for each habit of a real application, a UDP echo, and an HTTP port that
// tells what the connections came to. It knows nothing of the mesh.

import { createSocket } from 'node:dgram'
import { createServer, type Socket } from 'node:net'
import { crc32 } from 'node:zlib'
import { http as nodeHttp } from '../../../mesh/node-http.ts'
import { HTTP_PORT, TCP_PORTS, UDP_PORT, type Habit } from './ports.ts'

/** How a connection ended, as this side saw it. */
interface Ending {
  readonly habit: Habit
  readonly peer: string
  readonly received: number
  readonly end: 'fin' | string
}

const endings: Ending[] = []
/** Connections of the `sink` that are not read until they are told to. */
const blocked = new Set<Socket>()

const habits: Readonly<Record<Habit, (socket: Socket) => void>> = {
  echo: (socket) => socket.pipe(socket),

  /** Speaks first, then echoes. */
  greeter: (socket) => {
    socket.write('220 welcome\n')
    socket.pipe(socket)
  },

  /** Answers only once the client has said all it has to say. */
  digest: (socket) => {
    let bytes = 0
    let checksum = 0
    socket.on('data', (chunk) => {
      bytes += chunk.length
      checksum = crc32(chunk, checksum)
    })
    socket.on('end', () => socket.end(JSON.stringify({ bytes, checksum })))
  },

  /** Ends its own direction at once and goes on reading. */
  listener: (socket) => {
    socket.end('goodbye\n')
    socket.resume()
  },

  /** Resets the connection on the first byte. */
  resetter: (socket) => {
    socket.once('data', () => socket.resetAndDestroy())
  },

  /** Does not read until POST /unblock; then answers as `digest` does. */
  sink: (socket) => {
    socket.pause()
    blocked.add(socket)
  },
}

for (const [habit, port] of Object.entries(TCP_PORTS) as [Habit, number][]) {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    let end = 'fin'
    const peer = (socket.remoteAddress ?? '').replace(/^::ffff:/, '')
    socket.on('error', (error: NodeJS.ErrnoException) => {
      end = error.code ?? error.message
    })
    socket.on('close', () => endings.push({ habit, peer, received: socket.bytesRead, end }))
    habits[habit](socket)
  })
  // 2,000 connections may arrive at once.
  server.listen({ port, host: '::', backlog: 4096 })
  process.on('SIGTERM', () => server.close())
}

const udp = createSocket({ type: 'udp6', ipv6Only: false })
udp.on('message', (message, { port, address }) => {
  udp.send(`${address.replace(/^::ffff:/, '')} said ${String(message)}`, port, address)
})
udp.bind(UDP_PORT, '::')

const http = nodeHttp.createServer((request, response) => {
  if (request.method === 'POST' && request.url === '/unblock') {
    for (const socket of blocked) habits.digest(socket)
    for (const socket of blocked) socket.resume()
    blocked.clear()
  }
  response.end(
    JSON.stringify({
      client: (request.socket.remoteAddress ?? '').replace(/^::ffff:/, ''),
      pod: process.env.HOSTNAME,
      user: process.getuid?.(),
      blocked: blocked.size,
      endings,
    }),
  )
})
http.listen(HTTP_PORT, '::', () => console.log('listens'))
process.on('SIGTERM', () => http.close())
