// SPDX-License-Identifier: Apache-2.0
// What a client can send for nothing by HTTP/2, kind by kind.

import type { HeaderList } from '../../mesh/http2/hpack.ts'
import { FLAG, FRAME } from '../../mesh/http2/protocol.ts'
import { frame, headerBlock, headers } from '../hbone/raw-peer.ts'

/** More than any budget has. */
const MANY = 2_500
const REQUEST: HeaderList = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/flood'],
  [':authority', 'catalog'],
]

const int = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
const repeat = (count: number, make: (index: number) => Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, index) => make(index)))
const odd = (index: number): number => 2 * index + 1

/** A literal that enters the dynamic table: `x` with 3,000 octets; then 0xbe names it again in one octet. */
const LARGE_ENTRY = Buffer.concat([
  Buffer.from([0x40, 1]),
  Buffer.from('x'),
  Buffer.from([0x7f, ((3_000 - 127) & 0x7f) | 0x80, (3_000 - 127) >> 7]),
  Buffer.alloc(3_000, 'y'),
])

/** By what they consist of: what follows preface and SETTINGS. */
export const FLOODS: Readonly<Record<string, () => Buffer>> = {
  'rapid reset': () =>
    repeat(MANY, (index) =>
      Buffer.concat([headers(odd(index), REQUEST), frame(FRAME.rstStream, 0, odd(index), int(8))]),
    ),
  PING: () => repeat(MANY, () => frame(FRAME.ping, 0, 0, Buffer.alloc(8))),
  SETTINGS: () => repeat(MANY, () => frame(FRAME.settings, 0, 0)),
  'windows of one byte': () =>
    Buffer.concat([
      headers(1, REQUEST),
      repeat(MANY, () => frame(FRAME.windowUpdate, 0, 1, int(1))),
    ]),
  'empty DATA': () =>
    Buffer.concat([headers(1, REQUEST), repeat(MANY, () => frame(FRAME.data, 0, 1))]),
  CONTINUATION: () =>
    Buffer.concat([
      frame(FRAME.headers, 0, 1, headerBlock(REQUEST)),
      repeat(100, () => frame(FRAME.continuation, 0, 1)),
    ]),
  'lists that are large when they are read': () =>
    repeat(300, (index) =>
      frame(
        FRAME.headers,
        FLAG.endHeaders | FLAG.endStream,
        odd(index),
        Buffer.concat([headerBlock(REQUEST), LARGE_ENTRY, Buffer.alloc(4_000, 0xbe)]),
      ),
    ),
  'malformed requests': () =>
    repeat(MANY, (index) => headers(odd(index), [...REQUEST, ['Upper', 'case']], FLAG.endStream)),
}
