// SPDX-License-Identifier: Apache-2.0
// A peer with valid papers that makes the other side work, frame by frame, on several connections at once, and comes again when it is
// sent away. Reads what to do as JSON from standard input; prints "flooding" when its first connection stands, goes on until SIGTERM.

import { connect, type TLSSocket } from 'node:tls'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { FLAG, FRAME, PREFACE } from '../../../mesh/http2/protocol.ts'
import { CONNECT, frame, headers } from '../../hbone/raw-peer.ts'
import type { HeaderList } from '../../../mesh/http2/hpack.ts'
import { HTTP_PORT } from './ports.ts'
import type { PeerCertificate } from './stranger.ts'

export type Flood =
  /** Header blocks over the limit, Huffman-coded: 431. */
  | 'tooLarge'
  /** A CONNECT to no address: 400. */
  | 'badAuthority'
  /** One large entry of the dynamic table, named 60,000 times. */
  | 'indexBomb'
  /** A byte of window at a time. */
  | 'windowUpdates'
  /** A request, and its reset at once. */
  | 'rapidReset'
  /** Calls that a policy of the pod refuses: 401, a line in the audit or its count. */
  | 'denied'
  /** Fills the dynamic table again and again, then stays. */
  | 'tables'
  /** TLS that is begun and left. */
  | 'handshakes'

export interface FloodOrder {
  readonly flood: Flood
  readonly host: string
  readonly port: number
  readonly certificate: PeerCertificate
  readonly connections: number
}

/** Bytes that may wait in a socket: the flood goes at the pace of whoever reads. */
const FULL_BYTES = 256 * 1024
/** After being sent away. Milliseconds. */
const AGAIN_AFTER_MS = 5
const BLOCK_BYTES = 60_000
const TABLE_ENTRY_BYTES = 65_000
const TABLE_FILLS = 120

/** RFC 7541 5.1: an integer of the given prefix. */
function integer(value: number, prefixBits: number, flags: number): Buffer {
  const most = 2 ** prefixBits - 1
  if (value < most) return Buffer.from([flags | value])
  const bytes = [flags | most]
  let rest = value - most
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128)
  return Buffer.from([...bytes, rest])
}

/** Nothing is wrong with it. */
function callTo(host: string, streamId: number): Buffer {
  const authority = `${host}:${HTTP_PORT}`
  const call: HeaderList = [
    [':method', 'CONNECT'],
    [':authority', authority],
  ]
  return headers(streamId, call, FLAG.endStream)
}

const REQUEST = headers(1, CONNECT).subarray(9)

/** HEADERS, with CONTINUATION where one frame would be larger than every peer must take (RFC 9113 4.2). */
function block(streamId: number, bytes: Buffer): Buffer {
  const most = 16_384
  const parts: Buffer[] = []
  for (let at = 0; at < bytes.length; at += most) {
    const isLast = at + most >= bytes.length
    const type = at === 0 ? FRAME.headers : FRAME.continuation
    const flags = (isLast ? FLAG.endHeaders : 0) | (at === 0 ? FLAG.endStream : 0)
    parts.push(frame(type, flags, streamId, bytes.subarray(at, at + most)))
  }
  return Buffer.concat(parts)
}

/** '0' is five zero bits in the code of RFC 7541, so a value of them is zero bytes: all work is the decoder's. */
const TOO_LARGE = Buffer.concat([
  REQUEST,
  Buffer.from([0x00, 0x01, 0x78]),
  integer(BLOCK_BYTES, 7, 0x80),
  Buffer.alloc(BLOCK_BYTES),
])

/** With incremental indexing: one entry as large as the table takes. */
function indexed(valueBytes: number): Buffer {
  return Buffer.concat([
    Buffer.from([0x40, 0x01, 0x78]),
    integer(valueBytes, 7, 0),
    Buffer.alloc(valueBytes, 0x61),
  ])
}

const BOMB = Buffer.concat([REQUEST, indexed(4_000), Buffer.alloc(55_000, 0x80 | 62)])

function next({ flood, host }: FloodOrder, streamId: number): Buffer {
  switch (flood) {
    case 'denied':
      return callTo(host, streamId)
    case 'tooLarge':
      return block(streamId, TOO_LARGE)
    case 'badAuthority':
      return headers(
        streamId,
        [
          [':method', 'CONNECT'],
          [':authority', 'nowhere'],
        ],
        FLAG.endStream,
      )
    case 'indexBomb':
      return block(streamId, BOMB)
    case 'windowUpdates':
      return frame(FRAME.windowUpdate, 0, 0, Buffer.from([0, 0, 0, 1]))
    case 'rapidReset':
      return Buffer.concat([
        headers(streamId, CONNECT),
        frame(FRAME.rstStream, 0, streamId, Buffer.from([0, 0, 0, 8])),
      ])
    case 'tables':
      return block(streamId, Buffer.concat([REQUEST, indexed(TABLE_ENTRY_BYTES)]))
    case 'handshakes':
      return Buffer.alloc(0)
  }
}

const order = JSON.parse(await text(process.stdin)) as FloodOrder
let isStopping = false
let hasTold = false
process.once('SIGTERM', () => {
  isStopping = true
  process.exit(0)
})

function told(): void {
  if (!hasTold) console.log('flooding')
  hasTold = true
}

async function flooder(): Promise<void> {
  while (!isStopping) {
    await onConnection()
    await delay(AGAIN_AFTER_MS)
  }
}

async function onConnection(): Promise<void> {
  const { host, port, certificate, flood } = order
  const socket: TLSSocket = connect({
    host,
    port,
    ALPNProtocols: ['h2'],
    minVersion: 'TLSv1.3',
    // Whom it floods is no matter.
    rejectUnauthorized: false,
    key: certificate.key,
    cert: certificate.chain,
    ca: certificate.roots,
  })
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  socket.on('error', () => undefined)
  socket.resume()
  const ready = new Promise<void>((resolve) => socket.once('secureConnect', resolve))
  await Promise.race([ready, closed])
  if (socket.destroyed) return
  told()
  if (flood === 'handshakes') {
    socket.destroy()
    return
  }
  socket.write(Buffer.concat([PREFACE, frame(FRAME.settings, 0, 0)]))
  const fills = flood === 'tables' ? TABLE_FILLS : Number.POSITIVE_INFINITY
  for (let sent = 0; sent < fills && !socket.destroyed; sent += 1) {
    socket.write(next(order, 2 * sent + 1))
    if (socket.writableLength > FULL_BYTES)
      await Promise.race([new Promise((resolve) => socket.once('drain', resolve)), closed])
    else if (sent % 50 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  await closed
}

await Promise.all(Array.from({ length: order.connections }, flooder))
