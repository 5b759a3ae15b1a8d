// SPDX-License-Identifier: Apache-2.0
// Calls every habit of server.ts at one address and prints one line of JSON: what TCP looked like from this side.
// Usage: manners.ts ADDRESS

import { connect, type Socket } from 'node:net'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { crc32 } from 'node:zlib'
import { CLOSED_PORT, TCP_PORTS } from './ports.ts'

const [host = ''] = process.argv.slice(2)
/** More than all buffers on the way hold, less than a second's work. Bytes. */
const PAYLOAD = Buffer.alloc(8 * 1024 * 1024, 'ambit carries this ')

async function open(port: number): Promise<Socket> {
  const socket = connect({ host, port, allowHalfOpen: true, noDelay: true })
  await once(socket, 'connect')
  return socket
}

/** All that the far side says, until it ends its direction; this side's stays open. */
async function textOf(socket: Socket): Promise<string> {
  let text = ''
  socket.on('data', (chunk) => (text += String(chunk)))
  await once(socket, 'end')
  return text
}

/** How a connection ended for this side: "fin", or the error's code. */
async function endOf(socket: Socket): Promise<string> {
  let end = 'fin'
  socket.on('error', (error: NodeJS.ErrnoException) => {
    end = error.code ?? error.message
  })
  socket.resume()
  if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve))
  return end
}

/** The client stays silent; the first words are the server's. */
async function serverFirst(): Promise<string> {
  const socket = await open(TCP_PORTS.greeter)
  const [greeting] = (await once(socket, 'data')) as [Buffer]
  socket.end()
  return String(greeting) + (await textOf(socket))
}

/** The client says all it has, ends its direction, and only then gets the answer. */
async function clientHalfClose(): Promise<unknown> {
  const socket = await open(TCP_PORTS.digest)
  socket.end(PAYLOAD)
  const answer = JSON.parse(await textOf(socket)) as { bytes: number; checksum: number }
  return { bytes: answer.bytes, isIntact: answer.checksum === crc32(PAYLOAD) }
}

/** The server ends its direction first; what the client writes afterwards still arrives (the server tells). */
async function serverHalfClose(): Promise<string> {
  const socket = await open(TCP_PORTS.listener)
  const text = await textOf(socket)
  // The server's FIN was seen; a mesh that had closed both directions would answer this with a reset.
  socket.write(PAYLOAD.subarray(0, 100_000))
  await delay(50)
  socket.end(PAYLOAD.subarray(0, 100_000))
  return `${text.trim()}, then ${await endOf(socket)}`
}

async function serverReset(): Promise<string> {
  const socket = await open(TCP_PORTS.resetter)
  socket.write('x')
  return await endOf(socket)
}

/** A reset from this side, in the middle of a connection that has carried bytes. The server tells what it saw. */
async function clientReset(): Promise<string> {
  const socket = await open(TCP_PORTS.echo)
  socket.write('ping')
  const [echoed] = (await once(socket, 'data')) as [Buffer]
  socket.resetAndDestroy()
  return String(echoed)
}

/** Nobody listens: refused, or reset by a mesh that had to accept first; never a clean close, never a long wait. */
async function refused(): Promise<{ readonly end: string; readonly ms: number }> {
  const startedAt = performance.now()
  const end = await endOf(connect({ host, port: CLOSED_PORT }))
  return { end, ms: performance.now() - startedAt }
}

/** What the client's own socket says while it is open. */
async function names(): Promise<unknown> {
  const socket = await open(TCP_PORTS.echo)
  const { remoteAddress, remotePort, localAddress } = socket
  socket.end()
  await endOf(socket)
  return { peer: remoteAddress, port: remotePort, local: localAddress }
}

const [first, clientHalf, serverHalf, reset, own, none, sockets] = await Promise.all([
  serverFirst(),
  clientHalfClose(),
  serverHalfClose(),
  serverReset(),
  clientReset(),
  refused(),
  names(),
])
console.log(
  JSON.stringify({
    serverFirst: first,
    clientHalfClose: clientHalf,
    serverHalfClose: serverHalf,
    serverReset: reset,
    clientReset: own,
    refused: none,
    names: sockets,
  }),
)
