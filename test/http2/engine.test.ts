// SPDX-License-Identifier: Apache-2.0
// The parts of the HTTP/2 engine against properties, and against Node's own HTTP/2 as an independent witness.

import { deepStrictEqual, throws } from 'node:assert'
import fc from 'fast-check'
import t from 'tap'
import { type FrameHandler, FrameReader } from '../../mesh/http2/frame-reader.ts'
import { HeaderBlockWriter, type HeaderList, HpackDecoder } from '../../mesh/http2/hpack.ts'
import { decodeHuffman } from '../../mesh/http2/huffman.ts'
import { FLAG, FRAME, H2ConnectionError } from '../../mesh/http2/protocol.ts'
import { WaitingChunks } from '../../mesh/relay/waiting-chunks.ts'
import { frame } from '../hbone/raw-peer.ts'

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex')

await t.test(
  'HpackDecoder reads the examples of RFC 7541 appendix C, with their dynamic table',
  (t) => {
    // C.4: three requests on one connection, Huffman coded.
    const decoder = new HpackDecoder(65_536)
    const common = [
      [':method', 'GET'],
      [':scheme', 'http'],
      [':path', '/'],
      [':authority', 'www.example.com'],
    ]
    t.same(decoder.decode(hex('8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff')).headers, common)
    t.same(decoder.decode(hex('8286 84be 5886 a8eb 1064 9cbf')).headers, [
      ...common,
      ['cache-control', 'no-cache'],
    ])
    t.same(
      decoder.decode(hex('8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf')).headers,
      [
        [':method', 'GET'],
        [':scheme', 'https'],
        [':path', '/index.html'],
        [':authority', 'www.example.com'],
        ['custom-key', 'custom-value'],
      ],
    )
    t.end()
  },
)

await t.test('HpackDecoder evicts what no longer fits, and refuses to look it up', (t) => {
  const decoder = new HpackDecoder(65_536)
  const literal = (value: string): Buffer =>
    Buffer.concat([hex('40 01 61'), Buffer.from([value.length]), Buffer.from(value)])
  // 40 entries of 32 + 1 + 100 bytes do not fit in 4096: 30 do.
  for (let index = 0; index < 40; index += 1)
    decoder.decode(literal(String(index).padStart(100, '0')))
  t.equal(decoder.decode(Buffer.from([0x80 | 62])).headers[0]?.[1], '39'.padStart(100, '0'))
  t.equal(decoder.decode(Buffer.from([0x80 | 91])).headers[0]?.[1], '10'.padStart(100, '0'))
  t.throws(() => decoder.decode(Buffer.from([0x80 | 92])), H2ConnectionError)
  decoder.decode(hex('20')) // table size 0
  t.throws(() => decoder.decode(Buffer.from([0x80 | 62])), H2ConnectionError)
  t.throws(() => decoder.decode(hex('3f e2 1f')), H2ConnectionError, 'over what we allow')
  t.end()
})

await t.test('HeaderBlockWriter is read back by HpackDecoder, whatever the lengths', (t) => {
  const text = fc.string({
    unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)),
    maxLength: 400,
  })
  const list = fc.array(
    fc.tuple(fc.constantFrom(':method', ':authority', ':status', 'baggage', 'x'), text),
    { maxLength: 6 },
  )
  // One for all, so that what a block leaves behind meets the next.
  const writer = new HeaderBlockWriter()
  const readBack = (headers: HeaderList): readonly (readonly string[])[] => {
    writer.write(headers)
    const block = writer.bytes.subarray(0, writer.length)
    return new HpackDecoder(1_000_000).decode(block).headers.map((field) => [...field])
  }
  fc.assert(
    fc.property(list, (headers) => deepStrictEqual(readBack(headers), headers)),
    { numRuns: 200 },
  )
  const large: HeaderList = [['x', 'y'.repeat(100_000)]]
  t.same(readBack(large), large, 'one that is larger than what is kept')
  t.same(readBack([['x', 'z']]), [['x', 'z']], 'and the next')
  t.end()
})

await t.test('decodeHuffman() refuses EOS and padding that is not ones or too long', (t) => {
  t.equal(decodeHuffman(hex('f1e3 c2e5 f23a 6ba0 ab90 f4ff'), 0, 12, 100), 'www.example.com')
  t.throws(() => decodeHuffman(hex('ffff ffff'), 0, 4, 100), H2ConnectionError)
  t.throws(
    () => decodeHuffman(hex('f1e3 c2e5 f23a 6ba0 ab90 f4ff ff'), 0, 13, 100),
    H2ConnectionError,
  )
  t.throws(() => decodeHuffman(hex('18'), 0, 1, 100), H2ConnectionError, 'zeros after a symbol')
  t.end()
})

await t.test('HpackDecoder takes any octets without any other failure than its own', (t) => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 4 }), (blocks) => {
      const decoder = new HpackDecoder(2_000)
      try {
        for (const block of blocks) decoder.decode(Buffer.from(block))
      } catch (error) {
        throws(() => {
          throw error
        }, H2ConnectionError)
      }
    }),
    { numRuns: 2_000 },
  )
  t.pass('for two thousand sequences')
  t.end()
})

/** Writes down what the reader reports, joining slices of one DATA frame. */
class Recorder implements FrameHandler {
  readonly events: unknown[] = []
  #data: Buffer[] = []
  onDataFrame(streamId: number, flowBytes: number): void {
    this.events.push(['data', streamId, flowBytes])
  }
  onDataChunk(_streamId: number, chunk: Buffer): void {
    this.#data.push(Buffer.from(chunk))
  }
  onDataFrameEnd(streamId: number, isEnd: boolean, payload: number, padding: number): void {
    this.events.push([
      'end',
      streamId,
      isEnd,
      payload,
      padding,
      Buffer.concat(this.#data).toString('hex'),
    ])
    this.#data = []
  }
  onFrame(type: number, flags: number, streamId: number, payload: Buffer): void {
    this.events.push(['frame', type, flags, streamId, payload.toString('hex')])
  }
  onUnknownFrame(): void {
    this.events.push(['unknown'])
  }
}

/** Frames of one size only get that size. */
function sized(type: number, data: Uint8Array): Uint8Array {
  const sizes = new Map<number, number>([
    [FRAME.priority, 5],
    [FRAME.rstStream, 4],
    [FRAME.ping, 8],
    [FRAME.windowUpdate, 4],
  ])
  const size = sizes.get(type)
  return size === undefined ? data : Buffer.concat([data, Buffer.alloc(size)]).subarray(0, size)
}

const LIMITS = { maxFrameBytes: 1024 * 1024, maxCollectedBytes: 65_536 }

await t.test('FrameReader reports the same frames however the octets are cut', (t) => {
  const payload = fc.uint8Array({ maxLength: 40 })
  const streamId = fc.integer({ min: 0, max: 9 })
  const padded = fc
    .tuple(payload, fc.nat({ max: 20 }), streamId)
    .map(([data, padding, id]) =>
      frame(
        FRAME.data,
        FLAG.padded,
        id,
        Buffer.concat([Buffer.from([padding]), data, Buffer.alloc(padding)]),
      ),
    )
  const any = fc
    .tuple(fc.integer({ min: 0, max: 12 }), fc.constantFrom(0, 1, 4), streamId, payload)
    .map(([type, flags, id, data]) => frame(type, flags, id, sized(type, data)))
  const wire = fc
    .array(fc.oneof(padded, any), { maxLength: 8 })
    .map((frames) => Buffer.concat(frames))
  fc.assert(
    fc.property(
      wire,
      fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1 }),
      (bytes, cuts) => {
        const whole = new Recorder()
        new FrameReader(whole, LIMITS, false).read(bytes)
        const pieces = new Recorder()
        const reader = new FrameReader(pieces, LIMITS, false)
        for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
          const length = cuts[turn % cuts.length] ?? 1
          reader.read(bytes.subarray(at, at + length))
          at += length
        }
        deepStrictEqual(pieces.events, whole.events)
      },
    ),
    { numRuns: 500 },
  )
  t.pass('for five hundred streams')
  t.end()
})

await t.test('FrameReader refuses padding longer than its frame', (t) => {
  const reader = new FrameReader(new Recorder(), LIMITS, false)
  t.throws(
    () => reader.read(frame(FRAME.data, FLAG.padded, 1, Buffer.from([9, 1, 2]))),
    H2ConnectionError,
  )
  t.end()
})

await t.test('WaitingChunks gives what it took, in order, however it was cut', (t) => {
  const sizes = fc.array(fc.oneof(fc.nat({ max: 30 }), fc.nat({ max: 20_000 })), { maxLength: 60 })
  fc.assert(
    fc.property(sizes, fc.infiniteStream(fc.boolean()), (lengths, reads) => {
      const waiting = new WaitingChunks()
      const took: Buffer[] = []
      const gave: Buffer[] = []
      const read = (): boolean => {
        const chunk = waiting.shift()
        if (chunk !== undefined) gave.push(Buffer.from(chunk))
        return chunk !== undefined
      }
      for (const [index, length] of lengths.entries()) {
        const chunk = Buffer.alloc(length, index)
        took.push(Buffer.from(chunk))
        if (!waiting.push(chunk)) chunk.fill(0xff) // it is read into again
        if (reads.next().value) read()
      }
      while (read());
      deepStrictEqual(Buffer.concat(gave), Buffer.concat(took))
      deepStrictEqual(waiting.bytes, 0)
    }),
    { numRuns: 300 },
  )
  t.pass('for three hundred runs')
  t.end()
})

await t.test('a byte that waits alone takes a small buffer, whatever waited before it', (t) => {
  const waiting = new WaitingChunks()
  for (let index = 0; index < 40_000; index += 1) waiting.push(Buffer.alloc(1))
  while (waiting.shift() !== undefined);
  waiting.push(Buffer.alloc(1))
  t.equal(waiting.shift()?.buffer.byteLength, 1024)
  t.end()
})
