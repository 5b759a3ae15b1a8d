// SPDX-License-Identifier: Apache-2.0
// Calls that a waypoint carries as they are: what client and server see of one another, and what the far agent is told.

import { once } from 'node:events'
import { buffer } from 'node:stream/consumers'
import t from 'tap'
import { parseOriginalClient } from '../../mesh/telemetry/original-client.ts'
import type { IncomingTunnel } from '../../mesh/hbone/types.ts'
import { parseForwarded } from '../../mesh/telemetry/forwarded.ts'
import { testIdentity } from '../hbone/certs.ts'
import { echo } from '../hbone/harness.ts'
import { ip, sampleService, sampleWorkload } from '../model/samples.ts'
import { closed, makeWaypointWorld, OWN_WAYPOINT } from './world.ts'

void t.test(
  'given a bound Service, a call goes through the waypoint to a pod of it, half-closes and all',
  async (t) => {
    const world = await makeWaypointWorld(t)
    const pod = await world.addPod('v1', echo)
    const tunnel = await world.tunnel()
    tunnel.end('hello')
    t.equal((await buffer(tunnel)).toString(), 'hello')
    t.notOk(tunnel.wasReset)
    await world.told.until(() => world.ended.length === 1)
    t.match(world.ended[0], {
      end: {
        end: 'ok',
        bytesToUpstream: 5,
        bytesToDownstream: 5,
        endpoint: { workload: pod.workload, identity: testIdentity('v1') },
      },
    })
    t.equal(world.waypoint.tunnels, 0, 'nothing is left')
  },
)

void t.test(
  'the far agent hears for whom the waypoint calls, and which pod it means',
  async (t) => {
    const world = await makeWaypointWorld(t)
    const pod = await world.addPod('v1', echo)
    const tunnel = await world.tunnel()
    tunnel.end('x')
    await buffer(tunnel)
    const [incoming] = pod.tunnels
    t.equal(incoming?.authority, '10.244.1.1:8080')
    t.equal(incoming?.peerIdentity, testIdentity('way'))
    t.strictSame(parseOriginalClient(incoming?.headers.originalClient ?? ''), {
      identity: testIdentity('client'),
      address: '127.0.0.1',
    })
    const forwarded = parseForwarded(incoming?.headers.forwarded ?? '')
    t.equal(forwarded.host, 'catalog.shop.svc.cluster.local')
    t.equal(forwarded.for?.address, '127.0.0.1')
    t.match(incoming?.headers.baggage, /k8s\.deployment\.name=client/)
  },
)

void t.test(
  'a server that speaks first is heard, whatever its client does meanwhile',
  async (t) => {
    const world = await makeWaypointWorld(t)
    await world.addPod('mysql', (incoming) => {
      const tunnel = incoming.accept({})
      tunnel.on('error', () => undefined)
      // With the answer to the CONNECT: nothing has been read of either side by then.
      tunnel.end('greeting')
      tunnel.resume()
    })
    const silent = await world.tunnel()
    const [greeting] = (await once(silent, 'data')) as [Buffer]
    t.equal(greeting.toString(), 'greeting')
    silent.end()
    await closed(silent)
    t.notOk(silent.wasReset)
    const speaking = await world.tunnel()
    speaking.end('hello')
    t.equal((await buffer(speaking)).toString(), 'greeting')
    await world.told.until(() => world.ended.length === 2)
    t.match(world.ended, [
      { end: { end: 'ok', bytesToDownstream: 8 } },
      { end: { end: 'ok', bytesToUpstream: 5, bytesToDownstream: 8 } },
    ])
  },
)

void t.test('a large body goes through in both directions at once', async (t) => {
  const world = await makeWaypointWorld(t)
  await world.addPod('v1', echo)
  const tunnel = await world.tunnel()
  const sent = Buffer.alloc(20 * 1024 * 1024, 'ambit')
  tunnel.end(sent)
  t.ok((await buffer(tunnel)).equals(sent))
})

void t.test('a pod that cannot be reached is passed over for another one', async (t) => {
  const world = await makeWaypointWorld(t)
  world.addDeadPod('gone')
  await world.addPod('v1', echo)
  for (let calls = 0; calls < 8; calls += 1) {
    const tunnel = await world.tunnel()
    tunnel.end('x')
    t.equal((await buffer(tunnel)).toString(), 'x')
  }
})

void t.test(
  'given no pod that can be reached, the client is reset, and the end says why',
  async (t) => {
    const world = await makeWaypointWorld(t)
    world.addDeadPod('gone')
    const tunnel = await world.tunnel()
    await closed(tunnel)
    t.ok(tunnel.wasReset)
    await world.told.until(() => world.ended.length === 1)
    t.match(world.ended[0]?.end, { end: 'connectFailed', message: /ECONNREFUSED/ })
  },
)

void t.test("a reset of either side is one at the other's", async (t) => {
  const world = await makeWaypointWorld(t)
  const far = Promise.withResolvers<{ readonly wasReset: boolean }>()
  await world.addPod('v1', (incoming) => {
    const tunnel = incoming.accept({})
    tunnel.on('error', () => undefined)
    tunnel.once('data', (chunk: Buffer) => {
      if (chunk.toString() === 'reset me') tunnel.reset()
      else tunnel.write('here')
    })
    tunnel.once('close', () => far.resolve(tunnel))
  })
  const first = await world.tunnel()
  first.write('x')
  await once(first, 'data')
  first.reset()
  t.ok((await far.promise).wasReset)
  const second = await world.tunnel()
  second.write('reset me')
  await closed(second)
  t.ok(second.wasReset)
  await world.told.until(() => world.ended.length === 2)
  t.strictSame(
    world.ended.map(({ end }) => end.end),
    ['clientReset', 'serverReset'],
  )
})

void t.test('what is not bound to this waypoint is refused, and the reason is told', async (t) => {
  const world = await makeWaypointWorld(t)
  world.apply(
    {
      kind: 'service',
      service: sampleService('free', {
        addresses: [{ network: '', address: ip('10.96.0.60'), prefixLength: undefined }],
      }),
    },
    {
      kind: 'service',
      service: sampleService('theirs', {
        addresses: [{ network: '', address: ip('10.96.0.61'), prefixLength: undefined }],
        waypoint: {
          destination: {
            kind: 'hostname',
            namespace: 'shop',
            hostname: 'other.shop.svc.cluster.local',
          },
          hbonePort: 15008,
        },
      }),
    },
    { kind: 'workload', workload: sampleWorkload('bare', { addresses: [ip('10.244.2.1')] }) },
  )
  const cases: readonly (readonly [string, number, RegExp])[] = [
    ['10.96.0.60:80', 404, /service shop\/free.* is not bound to this waypoint/],
    ['10.96.0.61:80', 404, /service shop\/theirs.* is not bound to this waypoint/],
    ['10.96.0.50:81', 404, /has no port 81/],
    ['10.244.2.1:80', 404, /workload .*bare is not bound to this waypoint/],
    ['192.0.2.1:80', 404, /no service or workload is known at 192\.0\.2\.1/],
    ['10.96.0.50:15008', 400, /belongs to the mesh/],
    ['catalog:80', 400, /is not ip:port/],
    ['10.96.0.50', 400, /is not ip:port/],
  ]
  for (const [authority, status, message] of cases) {
    const opened = await world.open(authority)
    t.match(opened, { ok: false, error: { status } }, authority)
    t.match(world.refused.at(-1)?.message, message, authority)
  }
})

void t.test('a workload that is bound by itself is served at its own address', async (t) => {
  const world = await makeWaypointWorld(t)
  const pod = await world.addPod('solo', echo, {
    waypoint: OWN_WAYPOINT,
    services: new Map(),
    addresses: [ip('10.244.3.1')],
  })
  const tunnel = await world.tunnel('10.244.3.1:9000')
  tunnel.end('\x00x')
  t.equal((await buffer(tunnel)).toString(), '\x00x')
  t.equal(pod.tunnels[0]?.authority, '10.244.3.1:9000')
})

void t.test('one client cannot take all tunnels', async (t) => {
  const world = await makeWaypointWorld(t, { maxTunnels: 8 })
  await world.addPod('v1', echo)
  const tunnels = [await world.tunnel(), await world.tunnel()]
  t.match(await world.open(), { ok: false, error: { status: 503 } })
  t.match(world.refused, [{ reason: 'tooManyConnections' }])
  for (const tunnel of tunnels) {
    tunnel.end()
    await buffer(tunnel)
  }
  await world.tunnel()
})

void t.test(
  'given a waypoint that goes, calls end by themselves, and those that do not are cut',
  async (t) => {
    const world = await makeWaypointWorld(t)
    await world.addPod('v1', echo)
    const ends = await world.tunnel()
    const stays = await world.tunnel()
    ends.write('a')
    stays.write('b')
    await Promise.all([once(ends, 'data'), once(stays, 'data')])
    const stopped = closed(stays)
    const drained = world.waypoint.drain(300)
    ends.end('c')
    t.equal((await buffer(ends)).toString(), 'c')
    t.strictSame(await drained, { cut: 1 })
    await stopped
    t.ok(stays.wasReset)
    t.match(await world.open(), { ok: false })
  },
)

void t.test('given a client of another trust domain, it gets no tunnel', async (t) => {
  const { makeCertificate } = await import('../hbone/certs.ts')
  const world = await makeWaypointWorld(t, {
    clientCertificate: (root) => makeCertificate(root, testIdentity('client', 'other.domain')),
  })
  const served: IncomingTunnel[] = []
  await world.addPod('v1', (incoming) => served.push(incoming))
  t.match(await world.open(), { ok: false })
  t.strictSame(served, [])
})
