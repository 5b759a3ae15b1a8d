// SPDX-License-Identifier: Apache-2.0
// The way from this machine to the cluster's API server. It runs in the network namespace of the control plane's node, with a listener
// (fd 4) that was opened on this machine's loopback, and joins each connection to one to the server, whose address is its argument.

import { createConnection, createServer } from 'node:net'
import { once } from 'node:events'
import { pipeline } from 'node:stream'
import { API_PORT } from './layout.ts'

/** After the streams and the channel to whoever starts it. */
const LISTENER_FD = 4

const [host] = process.argv.slice(2)

const server = createServer({ allowHalfOpen: true }, (client) => {
  const upstream = createConnection({ host, port: API_PORT, allowHalfOpen: true })
  pipeline(client, upstream, client, () => undefined)
})
server.listen({ fd: LISTENER_FD })
await once(server, 'listening')
process.send?.(server.address())
process.disconnect?.()
