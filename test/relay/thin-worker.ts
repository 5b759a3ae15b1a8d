// SPDX-License-Identifier: Apache-2.0
// A thread that relays to a port of loopback by the native engine: tells its own port, then that 20 connections stand. A message ends it.

import { parentPort, workerData } from 'node:worker_threads'
import { serveThin, thinDialler } from '../../agent/proxy/thin-sockets.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { relay } from '../support/relay.ts'
import { addressBytes } from '../../native/libc.ts'
import { socketEngine } from '../support/engine.ts'
import { openSocket } from '../../native/socket-spec.ts'

const LOOPBACK = '127.0.0.1' as IpAddress
const ENOUGH = 20
const port = Number(workerData)
const engine = socketEngine()
if (engine === undefined) throw new Error('native/build/ambit-sockets.node was not built')

const listener = openSocket({
  family: 4,
  kind: 'tcp',
  bind: { address: addressBytes(LOOPBACK), port: 0 },
  backlog: ENOUGH,
})
const own = Number.parseInt(engine.address(listener, 'local') ?? '', 10)
let open = 0
serveThin(
  engine,
  listener,
  (downstream) => {
    const fd = openSocket({ family: 4, kind: 'tcp' })
    const upstream = thinDialler(engine).dial(fd, { address: LOOPBACK, port }, () => {
      void relay(downstream, upstream)
      open += 1
      if (open === ENOUGH) parentPort?.postMessage('open')
    })
  },
  () => undefined,
)
parentPort?.postMessage(own)
parentPort?.once('message', () => process.exit(0))
