// SPDX-License-Identifier: Apache-2.0
// The relay of bench/relay.ts, a process of its own: accepts on a free port and joins to 127.0.0.1:argv[2] by the
// relay of the module argv[3] (default: the agent's). Prints "ready PORT".

import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { pathToFileURL } from 'node:url'
import type { relay as joinStreams } from '../mesh/relay/relay.ts'

const upstreamPort = Number(process.argv[2])
const module = process.argv[3] ?? new URL('../mesh/relay/relay.ts', import.meta.url).pathname
const { relay } = (await import(pathToFileURL(module).href)) as {
  readonly relay: typeof joinStreams
}
const { signal } = new AbortController()
const server = createServer(
  { allowHalfOpen: true, noDelay: true, pauseOnConnect: true },
  (downstream) => {
    downstream.on('error', () => undefined)
    const upstream = connect({
      port: upstreamPort,
      host: '127.0.0.1',
      allowHalfOpen: true,
      noDelay: true,
    })
    upstream.on('error', () => downstream.destroy())
    upstream.once('connect', () => void relay(downstream, upstream, signal))
  },
)
server.listen(0, '127.0.0.1')
await once(server, 'listening')
console.log(`ready ${(server.address() as AddressInfo).port}`)
process.stdin.on('end', () => process.exit(0)).resume()
