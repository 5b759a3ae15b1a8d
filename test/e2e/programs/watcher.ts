// SPDX-License-Identifier: Apache-2.0
// Holds one connection to an echo port, keeps saying words over it, and prints how it ended.
// Usage: watcher.ts HOST PORT

import { connect } from 'node:net'

const [host = '', port = ''] = process.argv.slice(2)
const PACE_MS = 20

let end = 'fin'
const socket = connect({ host, port: Number(port) })
socket.once('data', () => console.log('open'))
socket.on('data', () => {
  setTimeout(() => socket.write('and another word'), PACE_MS)
})
socket.on('error', (error: NodeJS.ErrnoException) => {
  // Writing to what the far side has closed is EPIPE here, after its FIN or reset was seen.
  end = error.code ?? error.message
})
socket.on('close', () => console.log(JSON.stringify({ end })))
socket.write('a word')
