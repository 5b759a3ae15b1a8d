// SPDX-License-Identifier: Apache-2.0
// Connections that TCPRoutes and TLSRoutes lead through a waypoint.

import { once } from 'node:events'
import { buffer } from 'node:stream/consumers'
import { connect } from 'node:tls'
import t, { type Test } from 'tap'
import type { ConnectionRule } from '../../mesh/model/http-routes.ts'
import type { MeshChange } from '../../mesh/model/types.ts'
import { ip, sampleService } from '../model/samples.ts'
import { closed, makeWaypointWorld, SHOP_KEY, type World } from './world.ts'

/** The routes of the Service that the tests call. */
function routes(...connections: readonly Partial<ConnectionRule>[]): MeshChange {
  return {
    kind: 'httpRoutes',
    routes: {
      key: SHOP_KEY,
      service: SHOP_KEY,
      port: undefined,
      clients: undefined,
      rules: [],
      connections: connections.map((rule) => ({
        route: { kind: 'TCPRoute', namespace: 'shop', name: 'r', rule: '0' },
        isTls: false,
        hostnames: [],
        backends: [],
        fault: undefined,
        ...rule,
      })),
    },
  }
}

/** A Service of its own whose pod says its name, and all that it heard. */
async function addVersion(
  world: World,
  name: string,
  address: string,
  speaksFirst = false,
): Promise<ConnectionRule['backends'][number]> {
  const service = sampleService(name, {
    addresses: [{ network: '', address: ip(address), prefixLength: undefined }],
    ports: [{ servicePort: 80, targetPort: 8080, appProtocol: 'tcp' }],
  })
  const ports = [{ servicePort: 80, targetPort: 8080, appProtocol: 'tcp', family: 'any' } as const]
  world.apply({ kind: 'service', service })
  await world.addPod(
    name,
    (incoming) => {
      const tunnel = incoming.accept({})
      tunnel.on('error', () => undefined)
      if (speaksFirst) tunnel.write(`${name} greets`)
      const heard: Buffer[] = [Buffer.from(`${name}: `)]
      tunnel.on('data', (chunk: Buffer) => heard.push(chunk))
      tunnel.once('end', () => tunnel.end(Buffer.concat(heard)))
    },
    { services: new Map([[service.key, ports]]) },
  )
  return { target: { kind: 'service', service: service.key, port: 80 }, weight: 1 }
}

/** What the first message of a client of TLS is answered. */
async function answerTo(t: Test, world: World, servername: string): Promise<string> {
  const tunnel = await world.tunnel()
  const client = connect({ socket: tunnel, servername })
  // No pod here speaks TLS: what it says is no more than an error.
  client.on('error', () => undefined)
  t.teardown(() => client.destroy())
  await world.told.until(() => world.ended.length > 0)
  const { end } = world.ended.splice(0)[0] ?? {}
  return end?.endpoint?.workload?.name ?? end?.message ?? 'nothing is known of it'
}

for (const protocol of ['tcp', 'unknown', 'http1'] as const)
  void t.test(`a TCPRoute leads calls to a port whose protocol is ${protocol}`, async (t) => {
    const world = await makeWaypointWorld(t, { protocol })
    const v1 = await addVersion(world, 'v1', '10.96.1.1')
    const v2 = await addVersion(world, 'v2', '10.96.1.2')
    const ask = async (): Promise<string> => {
      const tunnel = await world.tunnel()
      tunnel.end('GET / HTTP/1.1\r\n\r\n')
      return (await buffer(tunnel)).toString()
    }
    world.apply(routes({ backends: [v1] }))
    t.equal(await ask(), 'v1: GET / HTTP/1.1\r\n\r\n', 'as it is, whatever it looks like')
    world.apply(routes({ backends: [{ ...v1, weight: 0 }, v2] }))
    t.match(await ask(), /^v2: /)
  })

void t.test('a server that speaks first is heard at once', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'unknown' })
  world.apply(routes({ backends: [await addVersion(world, 'v1', '10.96.1.1', true)] }))
  const tunnel = await world.tunnel()
  const [greeting] = (await once(tunnel, 'data')) as [Buffer]
  t.equal(greeting.toString(), 'v1 greets')
  tunnel.end()
  await closed(tunnel)
})

void t.test('what leads nowhere is refused, and told of with its route', async (t) => {
  const world = await makeWaypointWorld(t)
  world.apply(routes({ fault: 'it is odd' }))
  const tunnel = await world.tunnel()
  await closed(tunnel)
  t.ok(tunnel.wasReset)
  await world.told.until(() => world.ended.length === 1)
  t.match(world.ended, [
    { end: { end: 'noHealthyUpstream', message: 'TCPRoute shop/r: it is odd' } },
  ])
})

for (const protocol of ['tls', 'unknown'] as const)
  void t.test(
    `TLSRoutes lead clients by the name they ask for, at a port of ${protocol}`,
    async (t) => {
      const world = await makeWaypointWorld(t, { protocol })
      const v1 = await addVersion(world, 'v1', '10.96.1.1', true)
      const v2 = await addVersion(world, 'v2', '10.96.1.2', true)
      world.apply(
        routes(
          { isTls: true, hostnames: ['cart.example'], backends: [v1] },
          { isTls: true, hostnames: ['*.example'], backends: [v2] },
        ),
      )
      t.equal(await answerTo(t, world, 'cart.example'), 'v1')
      t.equal(await answerTo(t, world, 'pay.example'), 'v2')
      t.equal(
        await answerTo(t, world, 'other.test'),
        'no route takes it: it speaks TLS for other.test',
      )
      const plain = await world.tunnel()
      plain.write('hello')
      await closed(plain)
      t.ok(plain.wasReset)
    },
  )

void t.test('the first message reaches the server as the client sent it', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'tls' })
  const v1 = await addVersion(world, 'v1', '10.96.1.1')
  world.apply(routes({ isTls: true, backends: [v1] }))
  const message = Buffer.from([22, 3, 1, 0, 4, 1, 0, 0, 0, ...Buffer.from('and more')])
  const tunnel = await world.tunnel()
  for (const byte of message) tunnel.write(Buffer.from([byte]))
  tunnel.end()
  t.same(await buffer(tunnel), Buffer.concat([Buffer.from('v1: '), message]))
})

void t.test(
  'a client that leaves before it has said whom it asks for leaves nothing',
  async (t) => {
    const world = await makeWaypointWorld(t, { protocol: 'tls' })
    world.apply(routes({ isTls: true, backends: [await addVersion(world, 'v1', '10.96.1.1')] }))
    const tunnel = await world.tunnel()
    tunnel.reset()
    await world.told.until(() => world.ended.length === 1)
    t.match(world.ended, [{ end: { endpoint: undefined } }])
    t.equal(world.waypoint.tunnels, 0)
  },
)
