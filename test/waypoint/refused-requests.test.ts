// SPDX-License-Identifier: Apache-2.0
// What is told of requests that nobody can read: what they say themselves, as far as it can be read, and nothing of what another client asked
// just before. Heads are read into one object of the thread.

import { setImmediate as eventLoopTurn } from 'node:timers/promises'
import t from 'tap'
import type { HeaderList } from '../../mesh/http2/hpack.ts'
import { HeldMemory } from '../../mesh/http2/held-memory.ts'
import { FLAG, FRAME, PREFACE } from '../../mesh/http2/protocol.ts'
import { serveHttp2 } from '../../waypoint/exchange/serve-http2.ts'
import { frame, headerBlock, headers } from '../hbone/raw-peer.ts'
import { makeWorld, message, OK } from './harness.ts'

/** Somebody asks, and is answered, for what is nobody else's business. */
function secretCall(): void {
  const world = makeWorld()
  world.client.send(message(['PURGE /secret?token=1 HTTP/1.0', 'Host: bank']))
  world.app().send(OK)
  t.match(world.records, [{ target: '/secret?token=1', authority: 'bank', status: 200 }])
}

const GARBAGE: readonly (readonly [what: string, bytes: string, line: string])[] = [
  ['no HTTP', 'garbage\r\n\r\n', ' '],
  ['TLS', '\x16\x03\x01\x02\r\n\r\n', ' '],
  ['an unknown version', 'GET /a HTTP/3.0\r\nHost: h\r\n\r\n', 'GET /a'],
  ['a bad line', 'GET /a HTTP/1.1\r\nHost: h\r\nbad\r\n\r\n', 'GET /a'],
  ['no host', 'GET /a HTTP/1.1\r\n\r\n', 'GET /a'],
  ['no length', 'POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n', 'POST /a'],
  ['a long target', `GET /${'a'.repeat(20_000)} HTTP/1.1\r\nHost: h\r\n\r\n`, ' '],
  ['many fields', `GET /a HTTP/1.1\r\nHost: h\r\n${'a: b\r\n'.repeat(200)}\r\n`, 'GET /a'],
]

for (const [what, bytes, line] of GARBAGE)
  void t.test(`the line of a request with ${what} is about that request`, (t) => {
    secretCall()
    const world = makeWorld()
    world.client.send(bytes)
    const [record] = world.records
    t.equal(`${record?.method} ${record?.target}`, line)
    t.match(record, { authority: '', protocol: 'HTTP/1.1', flag: 'DPE' })
    t.end()
  })

void t.test('who asks for a tunnel is told what there is instead', (t) => {
  const world = makeWorld()
  world.client.send('CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n')
  const told = world.client.take()
  t.match(told, 'HTTP/1.1 405 Method Not Allowed\r\n')
  t.match(told, /\r\nallow: GET, HEAD, [^\r]*\r\n/)
  t.notMatch(told, /\r\nallow: [^\r]*CONNECT/)
  t.end()
})

void t.test(
  'and so it is by HTTP/2, where a malformed one comes before one that is too large',
  async (t) => {
    const open = async (...frames: readonly Buffer[]) => {
      const memory = new HeldMemory(1024 * 1024)
      const world = makeWorld({
        serve: (pipe, context) => serveHttp2(pipe, context, { memory, accounts: {} }),
      })
      world.client.send(Buffer.concat([PREFACE, frame(FRAME.settings, 0, 0), ...frames]))
      await eventLoopTurn()
      return world
    }
    const request = (path: string, ...more: HeaderList): HeaderList => [
      [':method', 'GET'],
      [':scheme', 'http'],
      [':authority', 'bank'],
      [':path', path],
      ...more,
    ]
    const malformed = await open(headers(1, request('/secret', ['connection', 'close'])))
    t.match(malformed.records, [{ target: '/secret', status: 0, flag: 'DPE' }])
    // A literal of 3,000 octets that enters the table, and is named again in one octet each: little on the wire, much once it is read.
    const entry = Buffer.concat([
      Buffer.from([0x40, 1]),
      Buffer.from('x'),
      Buffer.from([0x7f, ((3_000 - 127) & 0x7f) | 0x80, (3_000 - 127) >> 7]),
      Buffer.alloc(3_000, 'y'),
      Buffer.alloc(30, 0xbe),
    ])
    const block = Buffer.concat([headerBlock(request('/large')), entry])
    const large = await open(frame(FRAME.headers, FLAG.endHeaders | FLAG.endStream, 1, block))
    const refused = large.records.find(({ status }) => status === 431)
    t.match(refused, { method: 'GET', target: '/large', authority: 'bank', flag: 'DPE' })
  },
)
