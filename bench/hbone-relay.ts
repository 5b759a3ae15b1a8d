// SPDX-License-Identifier: Apache-2.0
// One relay of the HBONE bench, a process of its own: `outbound` (plain in, HBONE out) or `inbound` (HBONE in,
// plain out). Reads its settings as JSON from argv[2]; prints "ready" once it listens. Plain sockets are those of an agent.

import { socketEngine } from '../test/support/engine.ts'
import { HELD_LIMIT_BYTES } from '../mesh/hbone/limits.ts'
import { HeldMemory } from '../mesh/http2/held-memory.ts'
import { createHbonePool } from '../mesh/hbone/pool.ts'
import { createHboneServer } from '../mesh/hbone/server.ts'
import { HboneSources } from '../mesh/hbone/sources.ts'
import { resetSocket } from '../mesh/relay/reset-socket.ts'
import { relay } from '../test/support/relay.ts'
import type { PlainSocket } from '../mesh/relay/thin-socket.ts'
import { connectPlain, servePlain } from './plain-sockets.ts'
import type { IncomingTunnel, PoolTarget } from '../mesh/hbone/types.ts'
import type { WorkloadCertificate } from '../mesh/identity/types.ts'
import type { IpAddress, SpiffeId } from '../mesh/model/types.ts'
import { ok } from '../mesh/result.ts'
import { listeningFd } from '../test/hbone/harness.ts'
import { dialLoopback } from './dial.ts'

export interface RelaySettings {
  readonly role: 'outbound' | 'inbound'
  readonly certificate: WorkloadCertificate
  readonly peerIdentity: SpiffeId
  readonly upstreamPort: number
}

const memory = new HeldMemory(HELD_LIMIT_BYTES)
const LOOPBACK = '127.0.0.1' as IpAddress
const settings = JSON.parse(process.argv[2] ?? '{}') as RelaySettings
const port = settings.role === 'outbound' ? await outbound() : await inbound()
console.log(`ready ${port}`)
process.stdin.on('end', () => process.exit(0)).resume()

async function outbound(): Promise<number> {
  const pool = createHbonePool({
    certificate: () => Promise.resolve(ok(settings.certificate)),
    dial: () => dialLoopback(settings.upstreamPort),
    memory,
    engine: socketEngine(),
  })
  const target = {
    sourceIdentity: settings.certificate.identity,
    sourceIp: LOOPBACK,
    destination: { address: LOOPBACK, port: settings.upstreamPort },
    expectedIdentities: [settings.peerIdentity],
  } satisfies PoolTarget
  const headers = { baggage: 'k8s.cluster.name=Kubernetes,k8s.namespace.name=shop' }
  const carry = async (socket: PlainSocket): Promise<void> => {
    const abort = new AbortController()
    const opened = await pool.open(target, '127.0.0.1:80', headers, abort.signal)
    if (opened.ok) await relay(socket, opened.value.bare)
    else {
      console.error(opened.error)
      resetSocket(socket)
    }
  }
  return servePlain((socket) => void carry(socket))
}

async function inbound(): Promise<number> {
  const carry = async (incoming: IncomingTunnel): Promise<void> => {
    const socket = await connectPlain(settings.upstreamPort)
    if (socket === undefined) incoming.reject(503)
    else await relay(incoming.acceptBare({}), socket)
  }
  const server = createHboneServer({
    certificate: settings.certificate,
    isFromOutside: () => true,
    isKnownSource: () => true,
    sources: new HboneSources(),
    onTunnel: (incoming) => void carry(incoming),
    onRefused: (event) => console.error(event),
    memory,
    engine: socketEngine(),
  })
  const { fd, port } = await listeningFd()
  await server.listen({ fd })
  return port
}
