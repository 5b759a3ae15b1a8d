// SPDX-License-Identifier: Apache-2.0
// A waypoint that passes bytes on, for the stories of agents: it speaks HBONE both ways, as the pod of a Gateway does, and claims what it is
// told to.

import { once } from 'node:events'
import { connect } from 'node:net'
import type { Test } from 'tap'
import { HELD_LIMIT_BYTES } from '../../mesh/hbone/limits.ts'
import { createHbonePool } from '../../mesh/hbone/pool.ts'
import { createHboneServer } from '../../mesh/hbone/server.ts'
import { HboneSources } from '../../mesh/hbone/sources.ts'
import type { IncomingTunnel, TunnelHeaders } from '../../mesh/hbone/types.ts'
import { HeldMemory } from '../../mesh/http2/held-memory.ts'
import { spiffeId } from '../../mesh/identity/spiffe.ts'
import { MESH_PORTS } from '../../mesh/model/ports.ts'
import type {
  IpAddress,
  Service,
  SocketAddress,
  SpiffeId,
  Workload,
} from '../../mesh/model/types.ts'
import { ok } from '../../mesh/result.ts'
import { makeCertificate, type TestRoot } from '../hbone/certs.ts'
import { newAddress, testPod, testService, workloadOf } from './loopback-world.ts'

/** What it does with a tunnel: where it leads it, and for whom. */
export interface Onward {
  readonly to: SocketAddress
  readonly expect: SpiffeId
  readonly headers: TunnelHeaders
}

export interface WaypointDouble {
  readonly address: IpAddress
  readonly identity: SpiffeId
  readonly workload: Workload
  readonly service: Service
  /** The CONNECTs that it has got. */
  readonly tunnels: IncomingTunnel[]
  /** Makes a call of its own; its answer, or the status by which it was refused. */
  call(onward: Onward, text: string): Promise<string>
}

/** Starts one; without `onward` it refuses what comes. */
export async function startWaypoint(
  t: Test,
  root: TestRoot,
  onward?: (incoming: IncomingTunnel) => Onward,
  { name = 'waypoint', namespace = 'shop' } = {},
): Promise<WaypointDouble> {
  const address = newAddress()
  const pod = testPod(name, address, namespace)
  const identity = spiffeId({ trustDomain: 'cluster.local', namespace, serviceAccount: name })
  const certificate = await makeCertificate(root, identity)
  const memory = new HeldMemory(HELD_LIMIT_BYTES)
  const tunnels: IncomingTunnel[] = []
  const pool = createHbonePool({
    certificate: () => Promise.resolve(ok(certificate)),
    dial: async ({ destination }) => {
      const socket = connect({
        host: destination.address,
        port: destination.port,
        localAddress: address,
      })
      await once(socket, 'connect')
      return ok(socket)
    },
    memory,
  })
  const open = async ({ to, expect, headers }: Onward) =>
    pool.open(
      {
        sourceIdentity: identity,
        sourceIp: address,
        destination: { address: to.address, port: MESH_PORTS.hbone },
        expectedIdentities: [expect],
      },
      `${to.address}:${to.port}`,
      headers,
      AbortSignal.timeout(10_000),
    )
  const serve = async (incoming: IncomingTunnel): Promise<void> => {
    tunnels.push(incoming)
    const opened = onward && (await open(onward(incoming)))
    if (opened?.ok !== true) return incoming.reject(opened?.error.status ?? 503)
    const { tunnel } = opened.value
    const client = incoming.accept({})
    for (const leg of [tunnel, client]) leg.on('error', () => undefined)
    client.pipe(tunnel)
    tunnel.pipe(client)
  }
  const server = createHboneServer({
    certificate,
    isFromOutside: () => true,
    isKnownSource: () => true,
    sources: new HboneSources(),
    memory,
    onTunnel: (incoming) => void serve(incoming).catch((thrown: unknown) => t.error(thrown)),
    onRefused: ({ message }) => t.comment(message),
  })
  await server.listen({ host: address, port: MESH_PORTS.hbone })
  t.teardown(async () => {
    await pool.drain(0)
    await server.drain(0)
  })
  const port = { servicePort: 15008, targetPort: 15008, appProtocol: 'unknown' } as const
  const service = testService(name, newAddress(), {
    key: `${namespace}/${name}.${namespace}.svc.cluster.local` as Service['key'],
    namespace,
    hostname: `${name}.${namespace}.svc.cluster.local`,
    ports: [port],
  })
  const services: Workload['services'] = new Map([[service.key, [{ ...port, family: 'any' }]]])
  return {
    address,
    identity,
    workload: workloadOf(pod, { services, tunnelProtocol: 'none' }),
    service,
    tunnels,
    async call(to, text) {
      const opened = await open(to)
      if (!opened.ok) return `refused ${opened.error.status}`
      const { tunnel } = opened.value
      let answer = ''
      tunnel.on('data', (chunk: Buffer) => {
        answer += chunk.toString()
      })
      tunnel.end(text)
      await once(tunnel, 'end')
      return answer
    },
  }
}
