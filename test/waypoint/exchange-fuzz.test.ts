// SPDX-License-Identifier: Apache-2.0
// Whatever a client or an app sends, in whatever pieces: nothing throws, nothing is kept, and how it was split makes no difference.

import fc from 'fast-check'
import t from 'tap'
import { DENIED, FORWARD, GET, makeWorld, message, OK, type World } from './harness.ts'

const CRLF = '\r\n'
const LINES = [
  'Host: h',
  'Host: h',
  'Content-Length: 5',
  'Content-Length: 0',
  'Transfer-Encoding: chunked',
  'Transfer-Encoding: gzip',
  'Connection: close',
  'Connection: keep-alive, x-a',
  'Connection: upgrade',
  'Upgrade: websocket',
  'Expect: 100-continue',
  'TE: trailers',
  'x-a: 1',
  'bad line',
]
const BODIES = [
  '',
  'hello',
  '5\r\nhello\r\n0\r\n\r\n',
  '3;a\r\nabc\r\n0\r\nx: y\r\n\r\n',
  '\r\n',
  '\0',
]

const headOf = (first: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc
    .tuple(first, fc.subarray(LINES, { maxLength: 5 }), fc.constantFrom(...BODIES))
    .map(([line, lines, body]) => message([line, ...lines], body))
const request = headOf(
  fc.constantFrom(
    'GET / HTTP/1.1',
    'POST /no HTTP/1.1',
    'HEAD /x HTTP/1.1',
    'GET / HTTP/1.0',
    'CONNECT h:1 HTTP/1.1',
    'GET http://h/ HTTP/1.1',
    ' ',
  ),
)
const answer = headOf(
  fc.constantFrom(
    'HTTP/1.1 200 OK',
    'HTTP/1.1 100 Continue',
    'HTTP/1.1 204 None',
    'HTTP/1.0 200 OK',
    'HTTP/1.1 101 Switch',
    'HTTP/1.1 503 Busy',
    'ICY',
  ),
)

function send(world: World, side: 'client' | 'app', text: string, cuts: readonly number[]): void {
  const bytes = Buffer.from(text, 'latin1')
  const end = side === 'client' ? world.client : world.apps.at(-1)
  let from = 0
  for (const cut of [
    ...cuts.map((part) => Math.floor(part * bytes.length)).sort((a, b) => a - b),
    bytes.length,
  ]) {
    if (cut <= from) continue
    if (end === undefined || end.resetBy !== undefined) return
    end.send(bytes.subarray(from, cut))
    from = cut
  }
}

/** What the app and the client got in the end, without what tells one chunking of the same payload from another. */
function told(world: World): unknown {
  return {
    client: sameChunks(world.client.take()),
    apps: world.apps.map((app) => sameChunks(app.take())),
    records: world.records.map(({ method, target, status, flag, requestBytes, responseBytes }) => ({
      method,
      target,
      status,
      flag,
      requestBytes,
      responseBytes,
    })),
    closed: world.closed,
    end: [world.client.hasEnded, world.client.resetBy],
  }
}

/** Chunks are joined and dates struck out: both depend on when bytes came. */
function sameChunks(text: string): string {
  let told = ''
  let rest = text
  for (;;) {
    // A head, and before it the body of the last message where that was not chunked.
    const end = rest.indexOf(CRLF + CRLF)
    if (end < 0) return told + rest
    const head = rest.slice(0, end + 4)
    rest = rest.slice(end + 4)
    told += head.replace(/\r\ndate: [^\r]*/g, '')
    if (!/\r\ntransfer-encoding: chunked\r\n/i.test(head)) continue
    for (;;) {
      const [line, size] = /^([0-9a-f]+)[^\r]*\r\n/i.exec(rest) ?? []
      if (line === undefined || size === undefined) break
      const bytes = Number.parseInt(size, 16)
      if (bytes === 0) break // it and the trailers are the same however it came
      told += rest.slice(line.length, line.length + bytes)
      rest = rest.slice(line.length + bytes + CRLF.length)
    }
  }
}

function play(script: readonly (readonly [string, string])[], cuts: readonly number[]): World {
  const world = makeWorld({
    route: (head) =>
      head.target === '/no'
        ? DENIED
        : { ...FORWARD, retry: { attempts: 1, codes: [503], backoffMs: 0 } },
  })
  for (const [fromClient, fromApp] of script) {
    send(world, 'client', fromClient, cuts)
    send(world, 'app', fromApp, cuts)
  }
  return world
}

await t.test('the pieces that messages come in make no difference', (t) => {
  const script = fc.array(fc.tuple(request, answer), { minLength: 1, maxLength: 4 })
  const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 })
  fc.assert(
    fc.property(script, cuts, (messages, places) => {
      t.same(told(play(messages, places)), told(play(messages, [])))
    }),
    { numRuns: 400 },
  )
  t.end()
})

await t.test('nothing is left of any conversation once its client is gone', (t) => {
  const noise = fc.string({
    unit: fc.constantFrom('G', 'E', 'T', ' ', '/', 'H', ':', '\r', '\n', '0', '5', ';', ',', '\0'),
  })
  const step = fc.oneof(
    fc.tuple(fc.constant('client'), fc.oneof(request, noise, fc.constant(GET))),
    fc.tuple(fc.constant('app'), fc.oneof(answer, noise, fc.constant(OK))),
    fc.tuple(
      fc.constantFrom(
        'clientEnds',
        'appEnds',
        'appBreaks',
        'clientSlow',
        'appSlow',
        'drain',
        'time',
      ),
      fc.constant(''),
    ),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
      const world = play([], [])
      for (const [what, text] of steps) {
        const app = world.apps.at(-1)
        const isAppUp = app !== undefined && app.resetBy === undefined
        const isClientUp = world.client.resetBy === undefined && world.closed === 0
        if (what === 'client' && isClientUp) world.client.send(text)
        else if (what === 'app' && isAppUp) app.send(text)
        else if (what === 'clientEnds' && isClientUp) world.client.sink.ended()
        else if (what === 'appEnds' && isAppUp) app.sink.ended()
        else if (what === 'appBreaks' && isAppUp) {
          app.resetBy = 'serverReset'
          app.sink.broken('serverReset')
        } else if (what === 'clientSlow') world.client.hasRoom = !world.client.hasRoom
        else if (what === 'appSlow' && app !== undefined) app.hasRoom = !app.hasRoom
        else if (what === 'drain') {
          if (isClientUp) world.client.drain()
          if (isAppUp) app.drain()
        } else if (what === 'time') world.pass(10_000)
      }
      if (world.client.resetBy === undefined && world.closed === 0)
        world.client.sink.broken('clientReset')
      world.pass(10_000)
      t.equal(world.closed, 1)
      t.equal(world.deadlines.size, 0)
      t.equal(world.records.length >= world.heads.length, true, 'each request was told of')
      for (const app of world.apps)
        t.ok(world.idle.length === 1 || app.resetBy !== undefined || app.hasEnded)
    }),
    { numRuns: 400 },
  )
  t.end()
})

await t.test('a head of single bytes costs what it weighs', (t) => {
  const world = makeWorld()
  const field = `x: ${'a'.repeat(60)}${CRLF}`
  const head = Buffer.from(
    `GET / HTTP/1.1\r\nHost: h\r\n${field.repeat(100)}${`y: ${'b'.repeat(50_000)}\r\n`}`,
  )
  const started = process.cpuUsage().user
  for (const octet of head) world.client.send(Buffer.from([octet]))
  t.ok((process.cpuUsage().user - started) / 1e6 < 3, 'not the square of it')
  world.client.send(CRLF)
  t.equal(world.heads.length, 1)
  t.end()
})
