// SPDX-License-Identifier: Apache-2.0
// An agent's plain sockets on loopback: the native engine's, or Node's where that was not built (or AMBIT_BENCH_SOCKETS is "node").

import { socketEngine } from '../test/support/engine.ts'
import { serveThin, thinDialler } from '../agent/proxy/thin-sockets.ts'
import { connectBy, connectUpstream, serveListeningFd } from '../agent/proxy/upstream.ts'
import { Cut } from '../mesh/async/cut.ts'
import type { IpAddress } from '../mesh/model/types.ts'
import type { PlainSocket } from '../mesh/relay/thin-socket.ts'
import { ok } from '../mesh/result.ts'
import { addressBytes } from '../native/libc.ts'
import { openSocket } from '../native/socket-spec.ts'

const engine = process.env.AMBIT_BENCH_SOCKETS === 'node' ? undefined : socketEngine()
const dialler = engine && thinDialler(engine)
const LOOPBACK = '127.0.0.1' as IpAddress
const BACKLOG = 4096
const sockets = {
  openUpstream: () => ok(openSocket({ family: 4, kind: 'tcp', options: ['noDelay'] })),
  setOptions: () => undefined,
}

/** Accepts on a port of loopback, which it gives. */
export async function servePlain(onSocket: (socket: PlainSocket) => void): Promise<number> {
  const fd = openSocket({
    family: 4,
    kind: 'tcp',
    options: ['noDelay'],
    bind: { address: addressBytes(LOOPBACK), port: 0 },
    backlog: BACKLOG,
  })
  if (engine === undefined) {
    const address = (await serveListeningFd(fd, onSocket)).address()
    return typeof address === 'object' && address !== null ? address.port : 0
  }
  serveThin(engine, fd, onSocket, (code) => console.error(`accept failed: ${code}`))
  return Number.parseInt(engine.address(fd, 'local') ?? '', 10)
}

/** Connects to a port of loopback; undefined, and told, when that fails. */
export async function connectPlain(port: number): Promise<PlainSocket | undefined> {
  const request = { netnsFd: -1, destination: { address: LOOPBACK, port } }
  const dialled =
    dialler === undefined
      ? await connectUpstream(sockets, request, new Cut())
      : await connectBy(dialler, sockets, request, new Cut())
  if (dialled.ok) return dialled.value
  console.error(dialled.error)
  return undefined
}
