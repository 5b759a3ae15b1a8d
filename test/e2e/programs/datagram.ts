// SPDX-License-Identifier: Apache-2.0
// Says hello by UDP and prints the answer. Usage: datagram.ts ADDRESS PORT

import { createSocket } from 'node:dgram'
import { once } from 'node:events'

const [host = '', port = ''] = process.argv.slice(2)
const DEADLINE_MS = 5000

const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
socket.send('hello', Number(port), host)
const [answer] = (await once(socket, 'message', {
  signal: AbortSignal.timeout(DEADLINE_MS),
})) as [Buffer]
console.log(JSON.stringify({ text: String(answer) }))
socket.close()
