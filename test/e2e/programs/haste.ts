// SPDX-License-Identifier: Apache-2.0
// Three connections to the echo of server.ts: `idle` asks for keepalive (2 s, then 3 probes a second apart) and says nothing more, `busy`
// asks for TCP_USER_TIMEOUT of 3 s and goes on talking, `patient` asks for nothing. Prints "stand" once all are answered, "over" once
// the first two have ended, and at last, when `patient` is answered again, one line of JSON. Usage: haste.ts HOST

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { socketFd } from '../../../mesh/relay/last-descriptors.ts'
import { option } from '../../capture/support/raw-socket.ts'
import { TCP_PORTS } from './ports.ts'

/** What became of a connection that ended: by which error, and how long after the far end was last heard of. */
export interface Ended {
  readonly error: string
  readonly silentMs: number
}

export interface HasteReport {
  readonly idle: Ended
  readonly busy: Ended
  readonly patient: string
}

const [host = ''] = process.argv.slice(2)
const [SOL_SOCKET, IPPROTO_TCP] = [1, 6]
const [SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT] = [9, 4, 5, 6, 18]
const TALK_EVERY_MS = 100
let heardAt = 0

async function standing(): Promise<Socket> {
  const socket = connect({ host, port: TCP_PORTS.echo, noDelay: true })
  await once(socket, 'connect')
  socket.write('there')
  await once(socket, 'data')
  return socket
}

function ask(socket: Socket, level: number, name: number, value: number): void {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32LE(value)
  option(socketFd(socket) ?? -1, level, name, bytes)
}

function ended(socket: Socket): Promise<Ended> {
  return new Promise((resolve) => {
    let error = 'fin'
    socket.on('error', (thrown: NodeJS.ErrnoException) => {
      error = thrown.code ?? thrown.message
    })
    socket.once('close', () => resolve({ error, silentMs: performance.now() - heardAt }))
    socket.resume()
  })
}

const [idle, busy, patient] = [await standing(), await standing(), await standing()]
ask(idle, SOL_SOCKET, SO_KEEPALIVE, 1)
ask(idle, IPPROTO_TCP, TCP_KEEPIDLE, 2)
ask(idle, IPPROTO_TCP, TCP_KEEPINTVL, 1)
ask(idle, IPPROTO_TCP, TCP_KEEPCNT, 3)
ask(busy, IPPROTO_TCP, TCP_USER_TIMEOUT, 3000)
const talk = setInterval(() => busy.write('x'), TALK_EVERY_MS)
heardAt = performance.now()
busy.on('data', () => {
  heardAt = performance.now()
})
const ends = Promise.all([ended(idle), ended(busy)])
console.log('stand')
const [idleEnd, busyEnd] = await ends
clearInterval(talk)
console.log('over')
patient.write('back')
const [answer] = (await once(patient, 'data')) as [Buffer]
patient.destroy()
console.log(JSON.stringify({ idle: idleEnd, busy: busyEnd, patient: String(answer) }))
