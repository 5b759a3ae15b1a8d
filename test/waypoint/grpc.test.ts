// SPDX-License-Identifier: Apache-2.0
// Calls of gRPC through a waypoint, with grpc-js at both ends.

import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { once } from 'node:events'
import {
  Client,
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type ServiceError,
  status,
} from '@grpc/grpc-js'
import t, { type Test } from 'tap'
import type { HttpRule } from '../../mesh/model/http-routes.ts'
import type { MeshChange } from '../../mesh/model/types.ts'
import { asIs, streamingMethod, unaryMethod } from '../support/raw-grpc.ts'
import { makeWaypointWorld, SHOP_KEY, type World } from './world.ts'

const ECHO: ServiceDefinition = {
  say: unaryMethod('/echo.Echo/Say'),
  talk: streamingMethod('/echo.Echo/Talk'),
}

/** Where a server of gRPC listens. */
async function grpcServer(t: Test, name: string): Promise<number> {
  const server = new Server()
  server.addService(ECHO, {
    say: (
      call: { request: Buffer },
      done: (error: Partial<ServiceError> | null, answer?: Buffer, trailer?: Metadata) => void,
    ) => {
      const said = call.request.toString()
      if (said === 'fail') return done({ code: status.FAILED_PRECONDITION, details: 'not today' })
      const trailer = new Metadata()
      trailer.set('x-said-by', name)
      done(null, Buffer.from(`${name}: ${said}`), trailer)
    },
    talk: (call: NodeJS.ReadWriteStream) => {
      call.on(
        'data',
        (bytes: Buffer) => void call.write(Buffer.from(`${name}: ${bytes.toString()}`)),
      )
      call.on('end', () => call.end())
    },
  })
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  )
  t.teardown(() => server.forceShutdown())
  return port
}

/** Adds an endpoint whose connections go to such a port. */
async function addServer(world: World, name: string, port: number): Promise<void> {
  await world.addPlain(name, (socket) => {
    const to = connect({ port, host: '127.0.0.1' })
    to.on('error', () => socket.destroy())
    socket.pipe(to).pipe(socket)
  })
}

/** A client whose connection is a tunnel to the waypoint. */
async function client(t: Test, world: World): Promise<Client> {
  const front = createServer((socket) => {
    socket.on('error', () => undefined)
    void world.tunnel().then((tunnel) => {
      tunnel.on('error', () => socket.destroy())
      socket.pipe(tunnel).pipe(socket)
      t.teardown(() => tunnel.destroy())
    })
  }).listen(0, '127.0.0.1')
  await once(front, 'listening')
  const made = new Client(
    `127.0.0.1:${(front.address() as AddressInfo).port}`,
    credentials.createInsecure(),
    { 'grpc.default_authority': 'catalog' },
  )
  t.teardown(() => {
    made.close()
    front.close()
  })
  return made
}

/** Of a list of headers that is too large. */
const MANY_FIELDS = 1_900

interface Said {
  readonly code: number
  readonly details: string
  readonly answer: string | undefined
  readonly trailer: Metadata
}

function say(made: Client, text: string, path = '/echo.Echo/Say', fields = 0): Promise<Said> {
  const metadata = new Metadata()
  // Small ones, of which clients do not know how much they count for.
  for (let at = 0; at < fields; at += 1) metadata.add(`x-${at}`, String(at))
  return new Promise((resolve) => {
    let answer: string | undefined
    const call = made.makeUnaryRequest(
      path,
      asIs,
      asIs,
      Buffer.from(text),
      metadata,
      { deadline: Date.now() + 30_000 },
      (_, value) => {
        answer = value?.toString()
      },
    )
    call.on('status', ({ code, details, metadata }) =>
      setImmediate(() => resolve({ code, details, answer, trailer: metadata })),
    )
  })
}

void t.test('unary calls are answered, with their trailers and their status', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'grpc' })
  await addServer(world, 'v1', await grpcServer(t, 'v1'))
  const made = await client(t, world)
  const said = await say(made, 'hello')
  t.match(said, { code: status.OK, answer: 'v1: hello' })
  t.same(said.trailer.get('x-said-by'), ['v1'])
  t.match(await say(made, 'fail'), { code: status.FAILED_PRECONDITION, details: 'not today' })
  t.match(await say(made, '', '/echo.Echo/Unknown'), { code: status.UNIMPLEMENTED })
  await world.told.until(() => world.requests.length === 3)
  t.match(world.requests, [
    { status: 200, grpcStatus: 0, target: '/echo.Echo/Say', protocol: 'HTTP/2' },
    { status: 200, grpcStatus: status.FAILED_PRECONDITION },
    { status: 200, grpcStatus: status.UNIMPLEMENTED },
  ])
})

void t.test('a stream both ways is heard message by message', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'grpc' })
  await addServer(world, 'v1', await grpcServer(t, 'v1'))
  const made = await client(t, world)
  const call = made.makeBidiStreamRequest('/echo.Echo/Talk', asIs, asIs, {
    deadline: Date.now() + 30_000,
  })
  for (const word of ['one', 'two', 'three']) {
    call.write(Buffer.from(word))
    const [heard] = (await once(call, 'data')) as [Buffer]
    t.equal(heard.toString(), `v1: ${word}`, 'while the call goes on')
  }
  call.end()
  const [end] = (await once(call, 'status')) as [{ code: number }]
  t.equal(end.code, status.OK)
})

void t.test('a stream whose app goes ends as one whose connection has', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'grpc' })
  const port = await grpcServer(t, 'v1')
  const ways: Socket[] = []
  await world.addPlain('v1', (socket) => {
    const to = connect({ port, host: '127.0.0.1' })
    to.on('error', () => socket.destroy())
    socket.on('close', () => to.destroy())
    ways.push(socket)
    socket.pipe(to).pipe(socket)
  })
  const made = await client(t, world)
  const call = made.makeBidiStreamRequest('/echo.Echo/Talk', asIs, asIs, {
    deadline: Date.now() + 30_000,
  })
  call.on('error', () => undefined)
  call.write(Buffer.from('one'))
  const [heard] = (await once(call, 'data')) as [Buffer]
  t.equal(heard.toString(), 'v1: one')
  call.resume()
  const ended = new Promise<object>((resolve) => void call.once('status', resolve))
  ways[0]?.resetAndDestroy()
  t.match(await ended, { code: status.UNAVAILABLE, details: /^the upstream ended the call/ })
  await world.told.until(() => world.requests.length === 1)
  t.match(world.requests, [{ status: 200, grpcStatus: status.UNAVAILABLE, flag: 'UC' }])
  t.match(await say(made, 'hello'), { code: status.OK }, 'the next one is served')
})

void t.test('what the waypoint answers by itself is understood as gRPC', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'grpc' })
  const made = await client(t, world)
  t.match(await say(made, 'hello'), { code: status.UNAVAILABLE, details: 'no healthy upstream' })
  await world.told.until(() => world.requests.length === 1)
  t.match(world.requests, [{ status: 200, grpcStatus: status.UNAVAILABLE, flag: 'UH' }])
  world.apply(routes([byMethod('/echo.Echo/Talk')]))
  t.match(await say(made, 'hello'), { code: status.UNIMPLEMENTED }, 'no route takes it')
})

void t.test(
  'a call whose backend is not there is UNAVAILABLE, and has what its route adds',
  async (t) => {
    const world = await makeWaypointWorld(t, { protocol: 'grpc' })
    const made = await client(t, world)
    const edit = { set: [{ name: 'x-version', value: '2' }], add: [], remove: [] }
    const rule = {
      ...byMethod('/echo.Echo/Say'),
      filters: [{ kind: 'responseHeaders', edit } as const],
    }
    const target = { kind: 'unresolved', reason: 'no Service shop/gone' } as const
    world.apply(routes([{ ...rule, backends: [{ target, weight: 1, filters: [] }] }]))
    const gone = await say(made, 'hello')
    t.match(gone, { code: status.UNAVAILABLE })
    t.same(gone.trailer.get('x-version'), ['2'])
    world.apply(routes([rule]))
    const empty = await say(made, 'hello')
    t.match(empty, { code: status.UNAVAILABLE, details: 'no healthy upstream' })
    t.same(empty.trailer.get('x-version'), ['2'])
    await world.told.until(() => world.requests.length === 2)
    t.match(world.requests, [
      { status: 200, grpcStatus: status.UNAVAILABLE, flag: 'NR' },
      { status: 200, grpcStatus: status.UNAVAILABLE, flag: 'UH' },
    ])
  },
)

void t.test('a call that is too large is told so as gRPC', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'grpc' })
  await addServer(world, 'v1', await grpcServer(t, 'v1'))
  const tooLarge = { code: status.RESOURCE_EXHAUSTED, answer: undefined }
  const first = await client(t, world)
  t.match(await say(first, 'hello', `/echo.Echo/${'x'.repeat(17_000)}`), tooLarge, 'its path')
  t.match(await say(first, 'hello'), { code: status.OK }, 'the next one is served')
  t.match(
    await say(first, 'hello', '/echo.Echo/Say', MANY_FIELDS),
    { ...tooLarge, details: 'the headers are too large' },
    'its metadata, where the connection had calls before',
  )
  t.match(await say(first, 'hello'), { code: status.OK })
  const second = await client(t, world)
  t.match(
    await say(second, 'hello', '/echo.Echo/Say', MANY_FIELDS),
    { ...tooLarge, details: 'the headers are too large' },
    'and where it is the first',
  )
  await world.told.until(() => world.requests.length === 5)
  const told = { status: 200, grpcStatus: status.RESOURCE_EXHAUSTED, flag: 'DPE', isGrpc: true }
  t.match(world.requests[0], told)
  t.match(world.requests[2], { ...told, target: '/echo.Echo/Say', method: 'POST' })
  t.match(world.requests[4], told)
})

void t.test('a call is led by its method', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'grpc' })
  await addServer(world, 'v1', await grpcServer(t, 'v1'))
  world.apply(routes([byMethod('/echo.Echo/Say')]))
  const made = await client(t, world)
  t.match(await say(made, 'hello'), { code: status.OK, answer: 'v1: hello' })
  t.match(await say(made, 'hello', '/echo.Echo/Other'), { code: status.UNIMPLEMENTED })
  await world.told.until(() => world.requests.length === 2)
  t.match(world.requests, [
    { outcome: { route: { kind: 'GRPCRoute', name: 'calls' } } },
    { flag: 'NR', grpcStatus: status.UNIMPLEMENTED },
  ])
})

/** The rule of a GRPCRoute for one method, to the pods of the Service itself. */
function byMethod(path: string): HttpRule {
  return {
    route: { kind: 'GRPCRoute', namespace: 'shop', name: 'calls', rule: '0' },
    matches: [
      { path: { kind: 'exact', value: path }, method: 'POST', headers: [], queryParams: [] },
    ],
    filters: [],
    backends: [
      { target: { kind: 'service', service: SHOP_KEY, port: 80 }, weight: 1, filters: [] },
    ],
    timeouts: { requestMs: 0, backendRequestMs: 0 },
    retry: undefined,
    session: undefined,
    fault: undefined,
  }
}

function routes(rules: readonly HttpRule[]): MeshChange {
  return {
    kind: 'httpRoutes',
    routes: {
      key: SHOP_KEY,
      service: SHOP_KEY,
      port: undefined,
      clients: undefined,
      connections: [],
      rules,
    },
  }
}
