// SPDX-License-Identifier: Apache-2.0
// Requests through a waypoint, with real clients and servers of HTTP at its ends.

import { once } from 'node:events'
import { Agent, createServer, request, type IncomingMessage, type RequestListener } from 'node:http'
import type { Duplex } from 'node:stream'
import { text } from 'node:stream/consumers'
import { setImmediate as eventLoopTurn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { IncomingTunnel } from '../../mesh/hbone/types.ts'
import type { HttpBackend, HttpRule } from '../../mesh/model/http-routes.ts'
import type { MeshChange } from '../../mesh/model/types.ts'
import { FLAG, FRAME } from '../../mesh/http2/protocol.ts'
import { makeCertificate, testIdentity } from '../hbone/certs.ts'
import { frame, headers, rawPeer } from '../hbone/raw-peer.ts'
import { ip, sampleService } from '../model/samples.ts'
import { closed, makeWaypointWorld, SHOP_KEY, type World } from './world.ts'

/** Serves requests that come by tunnels. */
function app(listener: RequestListener): (incoming: IncomingTunnel) => void {
  const server = createServer({ keepAliveTimeout: 60_000 }, listener)
  return (incoming) => {
    const tunnel = incoming.accept({})
    tunnel.on('error', () => undefined)
    server.emit('connection', Object.assign(tunnel, SOCKET_ONLY))
  }
}

const nothing = (): void => undefined
/** What Node's HTTP calls on its connections, and only sockets have. */
const SOCKET_ONLY = {
  setKeepAlive: nothing,
  setNoDelay: nothing,
  setTimeout: nothing,
  ref: nothing,
  unref: nothing,
}

/** Makes requests over one tunnel after the other, each kept alive. */
function client(t: Test, world: Pick<World, 'tunnel'>) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  Reflect.set(
    agent,
    'createConnection',
    (_: unknown, done: (error: Error | null, stream?: Duplex) => void) => {
      world.tunnel().then(
        (tunnel) => {
          // As a socket that was not made with allowHalfOpen.
          tunnel.once('end', () => tunnel.end())
          done(null, Object.assign(tunnel, SOCKET_ONLY))
        },
        (error: unknown) => done(error as Error),
      )
    },
  )
  return async (
    path: string,
    options: {
      readonly method?: string
      readonly body?: string
      readonly headers?: Record<string, string>
    } = {},
  ): Promise<{
    readonly status: number
    readonly body: string
    readonly headers: IncomingMessage['headers']
  }> => {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const { method = 'GET', headers = {} } = options
    const sent = request({ agent, path, host: 'catalog', method, headers }, resolve)
    sent.on('error', reject)
    sent.end(options.body)
    const answer = await promise
    return { status: answer.statusCode ?? 0, body: await text(answer), headers: answer.headers }
  }
}

void t.test('requests are answered by a pod, over tunnels that are used again', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http1' })
  const pod = await world.addPod(
    'v1',
    app(
      (request, response) =>
        void text(request).then((body) => response.end(`${request.method} ${request.url} ${body}`)),
    ),
  )
  const ask = client(t, world)
  t.match(await ask('/a'), { status: 200, body: 'GET /a ' })
  t.match(await ask('/b', { method: 'POST', body: 'hello' }), {
    status: 200,
    body: 'POST /b hello',
  })
  t.match(await ask('/c'), { status: 200, body: 'GET /c ' })
  t.equal(pod.tunnels.length, 1)
  t.match(world.requests, [
    { status: 200, method: 'GET', target: '/a', flag: '-', endpoint: { workload: pod.workload } },
    { status: 200, method: 'POST', requestBytes: 5 },
    { status: 200 },
  ])
})

void t.test('what was opened for one client is never used for another', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http1' })
  const pod = await world.addPod(
    'v1',
    app((_, response) => response.end('ok')),
  )
  await client(t, world)('/')
  const other = await world.asAnother('other')
  await client(t, other)('/')
  t.equal(pod.tunnels.length, 2)
  t.match(
    pod.tunnels.map(({ headers }) => headers.originalClient),
    [/sa\/client;/, /sa\/other;/],
  )
})

void t.test('requests go to several pods, and past one that cannot be had', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http1' })
  for (const name of ['v1', 'v2'])
    await world.addPod(
      name,
      app((_, response) => response.end(name)),
    )
  world.addDeadPod('gone')
  const ask = client(t, world)
  const seen = new Set<string>()
  for (let count = 0; count < 40; count += 1) {
    const { status, body } = await ask('/')
    t.equal(status, 200)
    seen.add(body)
  }
  t.strictSame([...seen].sort(), ['v1', 'v2'])
})

void t.test('given no pod, the answer is 503, and the next request has its chance', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http1' })
  const ask = client(t, world)
  t.match(await ask('/'), { status: 503 })
  t.match(world.requests, [{ flag: 'UH', status: 503 }])
  await world.addPod(
    'v1',
    app((_, response) => response.end('ok')),
  )
  t.match(await ask('/'), { status: 200 })
})

void t.test(
  'where nobody said what a port speaks, requests are requests all the same',
  async (t) => {
    const world = await makeWaypointWorld(t, { protocol: 'unknown' })
    const pod = await world.addPod(
      'v1',
      app((request, response) => response.end(request.url)),
    )
    const ask = client(t, world)
    t.match(await ask('/a'), { status: 200, body: '/a' })
    t.equal(world.requests.length, 1)
    // A client that was silent until the waypoint had connected for it.
    const tunnel = await world.tunnel()
    await world.told.until(() => pod.tunnels.length === 2 || (setImmediate(world.told.poke), false))
    tunnel.write('GET /b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n')
    t.match(await text(tunnel), /^HTTP\/1\.1 200 [^]*\/b$/)
    t.equal(world.requests.length, 2)
  },
)

/** Routes of the Service that the tests call. */
function routes(rules: readonly Partial<HttpRule>[]): MeshChange {
  const path = { kind: 'prefix', value: '/' } as const
  return {
    kind: 'httpRoutes',
    routes: {
      key: SHOP_KEY,
      service: SHOP_KEY,
      port: undefined,
      clients: undefined,
      connections: [],
      rules: rules.map((rule) => ({
        route: { kind: 'HTTPRoute', namespace: 'shop', name: 'catalog', rule: '0' },
        matches: [{ path, method: undefined, headers: [], queryParams: [] }],
        filters: [],
        backends: [],
        timeouts: { requestMs: 0, backendRequestMs: 0 },
        retry: undefined,
        session: undefined,
        fault: undefined,
        ...rule,
      })),
    },
  }
}

/** A Service of its own for one version, with a pod. */
async function addVersion(world: World, name: string, address: string): Promise<HttpBackend> {
  const service = sampleService(name, {
    addresses: [{ network: '', address: ip(address), prefixLength: undefined }],
    ports: [{ servicePort: 80, targetPort: 8080, appProtocol: 'http1' }],
  })
  const ports = [
    { servicePort: 80, targetPort: 8080, appProtocol: 'http1', family: 'any' } as const,
  ]
  world.apply({ kind: 'service', service })
  await world.addPod(
    name,
    app((request, response) => response.end(`${name} ${request.headers['x-tried'] ?? ''}`)),
    { services: new Map([[service.key, ports]]) },
  )
  return { target: { kind: 'service', service: service.key, port: 80 }, weight: 1, filters: [] }
}

void t.test('a route sends nine of ten requests to v1 and one to v2', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http1' })
  const v1 = await addVersion(world, 'v1', '10.96.1.1')
  const v2 = await addVersion(world, 'v2', '10.96.1.2')
  world.apply(
    routes([
      {
        backends: [
          { ...v1, weight: 90 },
          { ...v2, weight: 10 },
        ],
      },
    ]),
  )
  const ask = client(t, world)
  let toV2 = 0
  const COUNT = 600
  for (let count = 0; count < COUNT; count += 1) {
    const { body } = await ask('/')
    if (body.startsWith('v2')) toV2 += 1
  }
  // Six standard deviations to either side: a coin would be wrong once in five hundred million runs.
  const deviation = Math.sqrt(COUNT * 0.1 * 0.9)
  t.ok(Math.abs(toV2 - COUNT * 0.1) < 6 * deviation, `${toV2} of ${COUNT} went to v2`)
})

void t.test('a change of routes counts from the next request on', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http1' })
  const v1 = await addVersion(world, 'v1', '10.96.1.1')
  const v2 = await addVersion(world, 'v2', '10.96.1.2')
  const ask = client(t, world)
  world.apply(routes([{ backends: [v1] }]))
  t.match(await ask('/'), { body: /^v1/ })
  world.apply(routes([{ backends: [v2] }]))
  t.match(await ask('/'), { body: /^v2/ })
  world.apply(routes([{ fault: 'a regular expression cannot be read', backends: [v1] }]))
  t.match(await ask('/'), { status: 500 })
  world.apply(routes([]))
  t.match(await ask('/'), { status: 404 })
  await world.addPod(
    'plain',
    app((_, response) => response.end('plain')),
  )
  world.apply({ kind: 'httpRoutesRemoved', key: SHOP_KEY })
  t.match(await ask('/'), { status: 200, body: 'plain' })
})

void t.test('a route may go by a header and edit others', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http1' })
  const v1 = await addVersion(world, 'v1', '10.96.1.1')
  const set = [{ name: 'x-tried', value: 'yes' }]
  const filters = [{ kind: 'requestHeaders', edit: { set, add: [], remove: [] } } as const]
  world.apply(routes([{ backends: [{ ...v1, filters }] }]))
  t.match(await client(t, world)('/'), { body: 'v1 yes' })
})

void t.test(
  'a client comes back to the pod and the version it had, until they are gone',
  async (t) => {
    const world = await makeWaypointWorld(t, { protocol: 'http1' })
    const v1 = await addVersion(world, 'v1', '10.96.1.1')
    const v2 = await addVersion(world, 'v2', '10.96.1.2')
    const session = {
      kind: 'cookie',
      name: 'stay',
      absoluteMs: 0,
      idleMs: 0,
      isPermanent: false,
      key: Buffer.alloc(32, 7).toString('base64url'),
    } as const
    world.apply(routes([{ backends: [v1, v2], session }]))
    const ask = client(t, world)
    const first = await ask('/')
    const [cookie = ''] = first.headers['set-cookie']?.map((each) => each.split(';')[0] ?? '') ?? []
    t.match(cookie, /^stay=./)
    for (let count = 0; count < 20; count += 1) {
      const { body, headers } = await ask('/', { headers: { cookie } })
      t.equal(body, first.body)
      t.equal(headers['set-cookie'], undefined)
    }
    const seen = new Set<string>()
    for (let count = 0; count < 60; count += 1) seen.add((await ask('/')).body)
    t.equal(seen.size, 2, 'who has no session is balanced')
    const [other, name] = first.body.startsWith('v1') ? [v2, 'v2'] : [v1, 'v1']
    world.apply(routes([{ backends: [other], session }]))
    const moved = await ask('/', { headers: { cookie } })
    t.match(moved, { status: 200, body: new RegExp(`^${name}`) })
    t.match(moved.headers['set-cookie'], [/^stay=/], 'and gets another cookie')
  },
)

void t.test('a large body goes through both ways, and is not gathered on the way', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http1' })
  await world.addPod(
    'v1',
    app((request, response) => {
      request.pipe(response)
    }),
  )
  const body = 'ambit'.repeat(2 * 1024 * 1024)
  const answer = await client(t, world)('/', { method: 'POST', body })
  t.equal(answer.status, 200)
  t.ok(answer.body === body)
})

void t.test(
  'given a waypoint that goes, the request that runs is answered, and the next goes elsewhere',
  async (t) => {
    const world = await makeWaypointWorld(t, { protocol: 'http1' })
    const arrived = Promise.withResolvers<() => void>()
    await world.addPod(
      'v1',
      app((_, response) => arrived.resolve(() => response.end('done'))),
    )
    const idle = await world.tunnel()
    const asked = client(t, world)('/')
    const finish = await arrived.promise
    const drained = world.waypoint.drain(1_000)
    idle.resume()
    await once(idle, 'end')
    idle.end()
    finish()
    const { status, body, headers } = await asked
    t.strictSame({ status, body }, { status: 200, body: 'done' })
    t.equal(headers.connection, 'close')
    t.strictSame(await drained, { cut: 0 })
    t.match(await world.open(), { ok: false })
  },
)

void t.test(
  'given a waypoint that goes, a client that has not heard of it yet is served, though nobody else calls',
  async (t) => {
    const world = await makeWaypointWorld(t, { protocol: 'http1' })
    await world.addPod(
      'v1',
      app((_, response) => response.end('served')),
    )
    const certificate = await makeCertificate(world.root, testIdentity('client'))
    const client = await rawPeer(t, world.port, certificate)
    await client.frame(({ type }) => type === FRAME.settings)
    const drained = world.waypoint.drain(10_000)
    // There is no call to wait for: only this client, which answers no PING yet.
    await client.frame(({ type }) => type === FRAME.goAway)
    await eventLoopTurn()
    client.send(
      headers(1, [
        [':method', 'CONNECT'],
        [':authority', '10.96.0.50:80'],
      ]),
    )
    const request = 'GET / HTTP/1.1\r\nhost: catalog\r\nconnection: close\r\n\r\n'
    client.send(frame(FRAME.data, FLAG.endStream, 1, Buffer.from(request)))
    const { payload } = await client.frame(
      (seen) => seen.type === FRAME.data && seen.payload.length > 0,
    )
    t.match(payload.toString(), /^HTTP\/1\.1 200 OK/)
    t.strictSame(await drained, { cut: 0 })
  },
)

void t.test(
  'given a waypoint that goes, an answer that outlasts it does not look whole',
  async (t) => {
    const world = await makeWaypointWorld(t, { protocol: 'http1' })
    await world.addPod(
      'v1',
      app((_, response) => void response.write('half')),
    )
    const tunnel = await world.tunnel()
    tunnel.on('error', () => undefined)
    tunnel.write('GET / HTTP/1.1\r\nhost: catalog\r\n\r\n')
    await once(tunnel, 'data')
    const drained = world.waypoint.drain(100)
    await closed(tunnel)
    t.ok(tunnel.wasReset, 'it is not closed as if it were over')
    t.strictSame(await drained, { cut: 1 })
    t.match(world.requests, [{ status: 200, flag: 'DC' }])
  },
)

void t.test(
  'a pod that dies under a request that may have been done is told of, and it is not sent again',
  async (t) => {
    const world = await makeWaypointWorld(t, { protocol: 'http1' })
    await world.addPod('v1', (incoming) => {
      const tunnel = incoming.accept({})
      tunnel.on('error', () => undefined)
      tunnel.once('data', () => tunnel.reset())
    })
    const ask = client(t, world)
    t.match(await ask('/', { method: 'POST', body: 'x' }), { status: 503 })
    t.match(world.requests, [{ flag: 'UC', attempts: 1 }])
  },
)

void t.test(
  'given a waypoint that goes, a connection that is idle serves one more request',
  async (t) => {
    const world = await makeWaypointWorld(t, { protocol: 'http1' })
    await world.addPod(
      'v1',
      app((_, response) => response.end('ok')),
    )
    const ask = client(t, world)
    t.equal((await ask('/')).headers.connection, undefined)
    const drained = world.waypoint.drain(5_000)
    t.match(await ask('/'), { status: 200, headers: { connection: 'close' } })
    t.strictSame(await drained, { cut: 0 })
  },
)

void t.test('a redirect is answered here, and a rewrite changes what the app sees', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http1' })
  await world.addPod(
    'v1',
    app((request, response) => response.end(request.url)),
  )
  const own = {
    target: { kind: 'service', service: SHOP_KEY, port: 80 },
    weight: 1,
    filters: [],
  } as const
  const matchesOf = (value: string) => [
    { path: { kind: 'prefix', value }, method: undefined, headers: [], queryParams: [] } as const,
  ]
  const moved = { kind: 'prefix', value: '/new' } as const
  world.apply(
    routes([
      {
        matches: matchesOf('/old'),
        filters: [{ kind: 'rewrite', hostname: undefined, path: moved }],
        backends: [own],
      },
      {
        matches: matchesOf('/away'),
        filters: [
          {
            kind: 'redirect',
            scheme: 'https',
            hostname: 'other.example',
            port: undefined,
            path: undefined,
            status: 302,
          },
        ],
      },
      { matches: matchesOf('/plain'), backends: [own] },
    ]),
  )
  const ask = client(t, world)
  t.match(await ask('/old/a?b=c'), { status: 200, body: '/new/a?b=c' })
  t.match(await ask('/away/x'), {
    status: 302,
    headers: { location: 'https://other.example/away/x' },
  })
  t.match(await ask('/plain/../plain/%61?q'), { status: 200, body: '/plain/a?q' })
  t.match(await ask('/none'), { status: 404 })
})
