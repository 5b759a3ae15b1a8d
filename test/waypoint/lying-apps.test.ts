// SPDX-License-Identifier: Apache-2.0
// Apps that speak HTTP/2 and answer otherwise than they said, or what nobody can: their clients never take it for an answer, and the next
// request is served.

import t from 'tap'
import type { HeaderList } from '../../mesh/http2/hpack.ts'
import { FLAG, FRAME, PREFACE } from '../../mesh/http2/protocol.ts'
import type { IncomingTunnel } from '../../mesh/hbone/types.ts'
import { frame, headerBlock } from '../hbone/raw-peer.ts'
import { within } from '../support/until.ts'
import { makeWaypointWorld, type World } from './world.ts'

const END = FLAG.endStream
const head = (id: number, list: HeaderList, flags = 0): Buffer =>
  frame(FRAME.headers, FLAG.endHeaders | flags, id, headerBlock(list))
const data = (id: number, text: string, flags = 0): Buffer =>
  frame(FRAME.data, flags, id, Buffer.from(text))
const OK: HeaderList = [[':status', '200']]
const FIVE: HeaderList = [...OK, ['content-length', '5']]

interface Lie {
  readonly answer: (id: number) => readonly Buffer[]
  /** What the client is told; 200: its answer had begun, and is cut. */
  readonly status: 200 | 502
}

const LIES: Readonly<Record<string, Lie>> = {
  'less than its length': { answer: (id) => [head(id, FIVE), data(id, 'abc', END)], status: 200 },
  'more than its length': { answer: (id) => [head(id, FIVE), data(id, 'abcdefg')], status: 200 },
  'nothing of its length': { answer: (id) => [head(id, FIVE, END)], status: 502 },
  'one length twice': {
    answer: (id) => [head(id, [...FIVE, ['content-length', '5']]), data(id, 'hello', END)],
    status: 502,
  },
  'two lengths': {
    answer: (id) => [head(id, [...FIVE, ['content-length', '6']])],
    status: 502,
  },
  'a length that is no number': {
    answer: (id) => [head(id, [...OK, ['content-length', '5, 5']])],
    status: 502,
  },
  'two answers': {
    answer: (id) => [head(id, OK), data(id, 'abc'), head(id, OK)],
    status: 200,
  },
  'a status in its trailers': {
    answer: (id) => [head(id, OK), data(id, 'abc'), head(id, OK, END)],
    status: 200,
  },
  'a status that is none': { answer: (id) => [head(id, [[':status', '2000']], END)], status: 502 },
  'no status': { answer: (id) => [head(id, [['x', 'y']], END)], status: 502 },
  'a switch of protocols': { answer: (id) => [head(id, [[':status', '101']])], status: 502 },
  'fields of a connection': {
    answer: (id) => [head(id, [...OK, ['transfer-encoding', 'chunked']])],
    status: 502,
  },
  'a line of its own making': {
    answer: (id) => [head(id, [...OK, ['x', 'a\r\nset-cookie: b']], END)],
    status: 502,
  },
  'interim answers without end': {
    answer: (id) => Array.from({ length: 65 }, () => head(id, [[':status', '103']])),
    status: 502,
  },
}

/** An app that answers the first request with a lie, and those after it as it should. */
function liar({ answer }: Lie): (incoming: IncomingTunnel) => void {
  let isFirst = true
  return (incoming) => {
    const tunnel = incoming.accept({})
    tunnel.on('error', () => undefined)
    tunnel.write(frame(FRAME.settings, 0, 0))
    let had = Buffer.alloc(0)
    let at = PREFACE.length
    tunnel.on('data', (chunk: Buffer) => {
      had = Buffer.concat([had, chunk])
      while (had.length >= at + 9 && had.length >= at + 9 + had.readUIntBE(at, 3)) {
        const [type, id] = [had[at + 3], had.readUInt32BE(at + 5)]
        at += 9 + had.readUIntBE(at, 3)
        if (type !== FRAME.headers) continue
        const honest = [head(id, [...OK, ['content-length', '2']]), data(id, 'ok', END)]
        tunnel.write(Buffer.concat(isFirst ? [...answer(id)] : honest))
        isFirst = false
      }
    })
  }
}

/** What a client of HTTP/1.1 gets for one request, until the waypoint ends its connection. */
async function ask(world: World): Promise<string> {
  const tunnel = await world.tunnel()
  let got = ''
  tunnel.on('error', () => undefined)
  tunnel.on('data', (chunk: Buffer) => {
    got += String(chunk)
  })
  const over = new Promise<void>((resolve) => tunnel.once('close', () => resolve()))
  tunnel.end('POST / HTTP/1.1\r\nhost: catalog\r\nconnection: close\r\ncontent-length: 0\r\n\r\n')
  await within(over, 'the connection to be ended')
  return got
}

for (const [what, lie] of Object.entries(LIES))
  void t.test(`an app that sends ${what} is not taken to have answered`, async (t) => {
    const world = await makeWaypointWorld(t, { protocol: 'http2' })
    await world.addPod('v1', liar(lie))
    const got = await ask(world)
    const last = got.slice(got.lastIndexOf('HTTP/1.1 '))
    t.match(last, `HTTP/1.1 ${lie.status} `)
    if (lie.status === 200) t.notMatch(got, /\r\n0\r\n\r\n$/, 'it is cut, and not ended')
    await world.told.until(() => world.requests.length === 1)
    t.match(world.requests, [{ status: lie.status, attempts: 1 }])
    t.match(world.requests[0]?.flag, /^(?:UPE|UR|UC)$/)
    t.match(await ask(world), /^HTTP\/1\.1 200 OK\r\n[^]*ok$/, 'the next one')
  })
