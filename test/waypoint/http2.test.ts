// SPDX-License-Identifier: Apache-2.0
// Requests of HTTP/2 through a waypoint, with Node's own clients and servers at its ends.

import { once } from 'node:events'
import { createServer as createHttp1, type RequestListener } from 'node:http'
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  createServer,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2'
import { buffer, text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import type { IncomingTunnel } from '../../mesh/hbone/types.ts'
import { makeWaypointWorld, type World } from './world.ts'

type Serve = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void

/** An app that speaks HTTP/2. */
function app(serve: Serve, settings = {}): (incoming: IncomingTunnel) => void {
  const server = createServer({ settings })
  server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    stream.on('error', () => undefined)
    serve(stream, headers)
  })
  return (incoming) => {
    const tunnel = incoming.accept({})
    tunnel.on('error', () => undefined)
    server.emit('connection', tunnel)
  }
}

const nothing = (): void => undefined
const SOCKET_ONLY = {
  setKeepAlive: nothing,
  setNoDelay: nothing,
  setTimeout: nothing,
  ref: nothing,
  unref: nothing,
}

/** An app that speaks HTTP/1.1. */
function oldApp(listener: RequestListener): (incoming: IncomingTunnel) => void {
  const server = createHttp1({ keepAliveTimeout: 60_000 }, listener)
  return (incoming) => {
    const tunnel = incoming.accept({})
    tunnel.on('error', () => undefined)
    server.emit('connection', Object.assign(tunnel, SOCKET_ONLY))
  }
}

async function session(t: Test, world: Pick<World, 'tunnel'>): Promise<ClientHttp2Session> {
  const tunnel = await world.tunnel()
  const made = connect('http://catalog', { createConnection: () => tunnel })
  made.on('error', nothing)
  t.teardown(() => made.destroy())
  return made
}

interface Answer {
  readonly headers: IncomingHttpHeaders
  readonly trailers: IncomingHttpHeaders
  readonly body: string
}

async function answerOf(stream: ClientHttp2Stream): Promise<Answer> {
  let trailers: IncomingHttpHeaders = {}
  stream.on('trailers', (came) => {
    trailers = came
  })
  const [[headers], body] = await Promise.all([
    once(stream, 'response') as Promise<[IncomingHttpHeaders]>,
    text(stream),
  ])
  return { headers, trailers, body }
}

function ask(
  made: ClientHttp2Session,
  headers: OutgoingHttpHeaders,
  body?: string,
): Promise<Answer> {
  const stream = made.request(headers, { endStream: body === undefined })
  if (body !== undefined) stream.end(body)
  return answerOf(stream)
}

void t.test('requests of one connection share one connection to the app', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http2' })
  const pod = await world.addPod(
    'v1',
    app((stream, headers) => {
      void text(stream).then((body) => {
        stream.respond({ ':status': 200, 'x-path': headers[':path'] }, { waitForTrailers: true })
        stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': `${body.length}` }))
        stream.end(`${headers[':method']} ${headers[':authority']} ${body}`)
      })
    }),
  )
  const made = await session(t, world)
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, count) =>
      ask(made, { ':path': `/p${count}`, ':method': 'POST' }, `body ${count}`),
    ),
  )
  for (const [count, { headers, trailers, body }] of answers.entries()) {
    t.match(headers, { ':status': 200, 'x-path': `/p${count}` })
    t.equal(body, `POST catalog:80 body ${count}`)
    t.match(trailers, { 'x-sum': `${`body ${count}`.length}` })
  }
  t.equal(pod.tunnels.length, 1, 'one tunnel carries them all')
  await world.told.until(() => world.requests.length === 20)
  t.match(world.requests[0], { status: 200, protocol: 'HTTP/2', flag: '-', requestBytes: 6 })
})

void t.test('requests that end while others begin have nothing of one another', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http2' })
  await world.addPod(
    'v1',
    app((stream, headers) => {
      const path = headers[':path'] ?? ''
      // An answer whose request is still under way: its sender hears that nobody wants the rest.
      if (path.startsWith('/early')) {
        stream.respond({ ':status': 200 })
        stream.end(path)
        return
      }
      // Of those that are given up nothing comes.
      text(stream).then((body) => {
        stream.respond({ ':status': 200 })
        stream.end(`${path} ${body}`)
      }, nothing)
    }),
  )
  const made = await session(t, world)
  const rounds = 3
  const each = 40
  for (let round = 0; round < rounds; round += 1)
    await Promise.all(
      Array.from({ length: each }, async (_, count) => {
        const name = `${round}-${count}`
        const post = { ':method': 'POST' }
        if (count % 4 === 1) {
          const stream = made.request({ ...post, ':path': `/early/${name}` })
          stream.on('error', nothing)
          stream.write('the beginning of ')
          await once(stream, 'response')
          stream.close()
          return
        }
        if (count % 4 === 3) {
          const stream = made.request({ ...post, ':path': `/gone/${name}` })
          stream.on('error', nothing)
          stream.write('what nobody waits for')
          stream.close(8)
          return
        }
        const { body } = await ask(made, { ...post, ':path': `/whole/${name}` }, name)
        t.equal(body, `/whole/${name} ${name}`)
      }),
    )
  const seen = () => world.requests.filter(({ target }) => !target.startsWith('/gone'))
  await world.told.until(() => seen().length === (rounds * each * 3) / 4)
  for (const { target, requestBytes } of seen())
    if (target.startsWith('/whole'))
      t.equal(requestBytes, target.length - '/whole/'.length, `the body of ${target}, and no other`)
})

void t.test('a client of HTTP/2 is understood by an app of HTTP/1.1', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http1' })
  await world.addPod(
    'v1',
    oldApp((request, response) => {
      void text(request).then((body) => {
        response.setHeader('x-saw', JSON.stringify(request.headers))
        response.write('hello ')
        response.end(`${request.method} ${request.url} ${body}`)
      })
    }),
  )
  const made = await session(t, world)
  const posted = await ask(
    made,
    { ':path': '/a?b', ':method': 'POST', cookie: ['a=1', 'b=2'] },
    'data',
  )
  t.equal(posted.body, 'hello POST /a?b data')
  t.match(JSON.parse(String(posted.headers['x-saw'])), {
    host: 'catalog',
    cookie: 'a=1; b=2',
    'transfer-encoding': 'chunked',
  })
  t.notOk(posted.headers['transfer-encoding'])
  const got = await ask(made, { ':path': '/c' })
  t.equal(got.body, 'hello GET /c ')
  const head = await ask(made, { ':path': '/c', ':method': 'HEAD' })
  t.equal(head.body, '')
})

void t.test('large bodies go both ways at the pace of the slower side', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http2' })
  await world.addPod(
    'v1',
    app((stream) => {
      stream.respond({ ':status': 200 })
      stream.pipe(stream)
    }),
  )
  const made = await session(t, world)
  const stream = made.request({ ':path': '/', ':method': 'POST' })
  const sent = Buffer.alloc(5_000_000, 'abcdefg')
  stream.end(sent)
  const got = await buffer(stream)
  t.ok(got.equals(sent))
  await world.told.until(() => world.requests.length === 1)
  t.match(world.requests[0], { requestBytes: sent.length, responseBytes: sent.length, flag: '-' })
})

void t.test('a client of HTTP/1.1 is understood by an app of HTTP/2', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http2' })
  await world.addPod(
    'v1',
    app((stream, headers) => {
      void text(stream).then((body) => {
        stream.respond({ ':status': 201, 'x-host': headers[':authority'] ?? '' })
        stream.end(`${headers[':method']} ${headers[':path']} ${body}`)
      })
    }),
  )
  const tunnel = await world.tunnel()
  tunnel.end(
    'POST /a HTTP/1.1\r\nHost: cart\r\nTransfer-Encoding: chunked\r\nConnection: close, x-hop\r\nX-Hop: 1\r\n\r\n2\r\nhi\r\n0\r\n\r\n',
  )
  const answer = await text(tunnel)
  t.match(answer, /^HTTP\/1\.1 201 Created\r\n/)
  t.match(answer, /x-host: cart\r\n/)
  t.match(answer, /transfer-encoding: chunked\r\nconnection: close\r\n\r\n/)
  t.match(answer, /POST \/a hi/)
})

void t.test('an app that takes few requests at once gets all of them in the end', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http2' })
  let atOnce = 0
  let most = 0
  await world.addPod(
    'v1',
    app(
      (stream) => {
        atOnce += 1
        most = Math.max(most, atOnce)
        stream.on('close', () => {
          atOnce -= 1
        })
        stream.respond({ ':status': 200 })
        stream.end('done')
      },
      { maxConcurrentStreams: 5 },
    ),
  )
  const made = await session(t, world)
  // The first tells the waypoint how many it takes.
  t.equal((await ask(made, { ':path': '/' })).body, 'done')
  const answers = await Promise.all(
    Array.from({ length: 60 }, () => ask(made, { ':path': '/', ':method': 'POST' }, 'x')),
  )
  t.ok(answers.every(({ body }) => body === 'done'))
  t.ok(most > 0)
})

void t.test('an app that says goodbye to a connection fails no request', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http2' })
  let served = 0
  const pod = await world.addPod(
    'v1',
    app((stream) => {
      served += 1
      // GOAWAY, again and again: what comes behind it goes elsewhere.
      if (served % 5 === 0) stream.session?.close()
      stream.respond({ ':status': 200 })
      stream.end('done')
    }),
  )
  const made = await session(t, world)
  for (let round = 0; round < 10; round += 1) {
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => ask(made, { ':path': '/', ':method': 'POST' }, 'x')),
    )
    t.ok(answers.every(({ headers }) => String(headers[':status']) === '200'))
  }
  t.ok(pod.tunnels.length > 1, 'over other connections')
})

void t.test('a client that gives a request up has it ended at the app', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http2' })
  const ended = Promise.withResolvers<number>()
  await world.addPod(
    'v1',
    app((stream) => {
      stream.respond({ ':status': 200 })
      stream.write('begun')
      stream.on('close', () => ended.resolve(stream.rstCode))
    }),
  )
  const made = await session(t, world)
  const stream = made.request({ ':path': '/' })
  stream.on('error', nothing)
  await once(stream, 'data')
  stream.close(8)
  t.equal(await ended.promise, 8)
  await world.told.until(() => world.requests.length === 1)
  t.match(world.requests, [{ status: 200, flag: 'DC' }])
})

void t.test('an app that breaks off is not taken to have answered', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http2' })
  await world.addPod(
    'v1',
    app((stream, headers) => {
      if (headers[':path'] === '/early') return stream.close(2)
      stream.respond({ ':status': 200 })
      stream.write('half', () => stream.session?.destroy())
    }),
  )
  const made = await session(t, world)
  t.match(await ask(made, { ':path': '/early' }), { headers: { ':status': 503 } })
  const stream = made.request({ ':path': '/late' })
  const [error] = (await once(stream.resume(), 'error')) as [Error]
  t.match(error.message, /NGHTTP2_INTERNAL_ERROR/)
  await world.told.until(() => world.requests.length === 2)
  t.match(world.requests, [
    { status: 503, flag: 'UR' },
    { status: 200, flag: 'UC' },
  ])
})

void t.test('a waypoint that goes lets what runs end, and says so to the client', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http2' })
  const arrived = Promise.withResolvers<ServerHttp2Stream>()
  await world.addPod(
    'v1',
    app((stream) => arrived.resolve(stream)),
  )
  const made = await session(t, world)
  const asked = ask(made, { ':path': '/' })
  const stream = await arrived.promise
  const goodbye = once(made, 'goaway')
  const drained = world.waypoint.drain(10_000)
  await goodbye
  stream.respond({ ':status': 200 })
  stream.end('in time')
  t.equal((await asked).body, 'in time')
  t.equal((await drained).cut, 0)
})

void t.test('a stream that outlasts a waypoint is cut, and does not look whole', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http2' })
  await world.addPod(
    'v1',
    app((stream) => {
      stream.respond({ ':status': 200 })
      stream.write('half')
    }),
  )
  const made = await session(t, world)
  const stream = made.request({ ':path': '/' })
  let isWhole = false
  stream.on('error', nothing).on('end', () => {
    isWhole = stream.rstCode === 0
  })
  const closed = once(stream, 'close')
  await once(stream, 'data')
  const drained = world.waypoint.drain(100)
  await closed
  t.notOk(isWhole)
  t.equal((await drained).cut, 1)
  t.match(world.requests, [{ status: 200, flag: 'DC' }])
})
