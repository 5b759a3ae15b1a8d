// SPDX-License-Identifier: Apache-2.0
// A command that joins its stdin and stdout to a port of the loopback where it runs, in whichever family that is served.

const RELAY = `
const [, port] = process.argv
const socket = require('node:net').connect({ host: 'localhost', port: Number(port), allowHalfOpen: true })
socket.on('error', (error) => { console.error(error.code ?? error.message); process.exit(1) })
// Once all is written.
socket.on('end', () => process.stdout.write('', () => require('node:fs').closeSync(1)))
socket.on('close', () => process.stdin.destroy())
// An end said before would get lost with the first of several addresses that are tried.
socket.on('connect', () => process.stdin.pipe(socket))
socket.pipe(process.stdout, { end: false })`

/** The command for one connection to the port. */
export function relayCommand(port: number): readonly string[] {
  return [process.execPath, '-e', RELAY, String(port)]
}
