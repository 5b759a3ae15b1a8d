// SPDX-License-Identifier: Apache-2.0
// Opens COUNT connections and says nothing on them; with `fin` it ends its direction of each. Prints "holding" once all are open or
// refused; on SIGTERM it exits, and its kernel closes what is open. Usage: holder.ts HOST PORT COUNT [fin]

import { connect, type Socket } from 'node:net'

const [host = '', port = '', count = '', how] = process.argv.slice(2)
/** Connections under way at once: a burst beyond the accept queue only waits for SYNs to be sent again. */
const AT_ONCE = 200

process.once('SIGTERM', () => process.exit(0))

const sockets: Socket[] = []
let left = Number(count)

async function open(): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const socket = connect({ host, port: Number(port), allowHalfOpen: true })
  socket.once('connect', () => {
    if (how === 'fin') socket.end()
    resolve()
  })
  // Whoever is refused or cut is not held; that is all there is to it here.
  socket.on('error', () => resolve())
  sockets.push(socket)
  await promise
}

async function opener(): Promise<void> {
  while (left > 0) {
    left -= 1
    await open()
  }
}

await Promise.all(Array.from({ length: AT_ONCE }, opener))
console.log('holding')
// The sockets alone keep a process alive only while they are open.
setInterval(() => undefined, 60_000)
