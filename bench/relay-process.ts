// SPDX-License-Identifier: Apache-2.0
// The relay of bench/relay.ts, a process of its own: accepts on a free port and joins to 127.0.0.1:argv[2] as an agent does, or, by Node's
// sockets, with the relay of the module argv[3]. Prints "ready PORT".

import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { pathToFileURL } from 'node:url'
import { relay as joinPlain } from '../test/support/relay.ts'
import { resetSocket } from '../mesh/relay/reset-socket.ts'
import { connectPlain, servePlain } from './plain-sockets.ts'

const upstreamPort = Number(process.argv[2])
const other = process.argv[3]
const { signal } = new AbortController()
const port = other === undefined ? await serve() : await serveBy(other)
console.log(`ready ${port}`)
process.stdin.on('end', () => process.exit(0)).resume()

function serve(): Promise<number> {
  return servePlain((downstream) => {
    void connectPlain(upstreamPort).then((upstream) => {
      if (upstream === undefined) resetSocket(downstream)
      else void joinPlain(downstream, upstream, signal)
    })
  })
}

async function serveBy(module: string): Promise<number> {
  const { relay } = (await import(pathToFileURL(module).href)) as {
    readonly relay: typeof joinPlain
  }
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
  return (server.address() as AddressInfo).port
}
