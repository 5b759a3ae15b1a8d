// SPDX-License-Identifier: Apache-2.0
// Opens connections, makes one request on each, says "ready" and holds them until its standard input ends.
// Usage: idle-connections.ts HOST PORT COUNT

import { once } from 'node:events'
import { connect } from 'node:net'

const [host = '', port = '', count = ''] = process.argv.slice(2)
/** Opened at a time: enough to be quick, below any listen backlog. */
const BATCH = 50

const sockets = []
for (let opened = 0; opened < Number(count); opened += BATCH) {
  const batch = Array.from({ length: Math.min(BATCH, Number(count) - opened) }, async () => {
    const socket = connect({ host, port: Number(port) })
    await once(socket, 'connect')
    socket.write(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`)
    await once(socket, 'data')
    return socket
  })
  sockets.push(...(await Promise.all(batch)))
}
console.log('ready')
process.stdin.resume()
await once(process.stdin, 'end')
for (const socket of sockets) socket.destroy()
