// SPDX-License-Identifier: Apache-2.0
// What a client of TLS asks for, read from what real clients send, whole, in pieces, and damaged.

import { Duplex } from 'node:stream'
import { connect, type ConnectionOptions } from 'node:tls'
import fc from 'fast-check'
import t from 'tap'
import { certainName, readClientHello } from '../../waypoint/listener/client-hello.ts'

/** The first message of Node's client. */
async function helloOf(options: ConnectionOptions): Promise<Buffer> {
  const sent = Promise.withResolvers<Buffer>()
  const socket = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => {
      sent.resolve(chunk)
      done()
    },
  })
  const client = connect({ ...options, socket })
  client.on('error', sent.reject)
  const first = await sent.promise
  client.destroy()
  return first
}

/** The same message in records of this length. */
function inRecords(hello: Buffer, length: number): Buffer {
  const message = hello.subarray(5)
  const records: Buffer[] = []
  for (let at = 0; at < message.length; at += length) {
    const part = message.subarray(at, at + length)
    records.push(Buffer.from([22, 3, 1, part.length >> 8, part.length & 255]), part)
  }
  return Buffer.concat(records)
}

void t.test('the name that a client asks for is read, of every version of TLS', async (t) => {
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const hello = await helloOf({ servername: 'Cart.Shop.example', maxVersion })
    const expected = { kind: 'tls', serverName: 'cart.shop.example', isOdd: false } as const
    t.strictSame(readClientHello(hello, false), expected)
    for (const length of [1, 7, 100]) {
      const records = inRecords(hello, length)
      t.strictSame(readClientHello(records, false), expected, `in records of ${length}`)
    }
    t.strictSame(readClientHello(Buffer.concat([hello, Buffer.from('more')]), false), expected)
  }
})

void t.test('a client may ask for no name', async (t) => {
  const hello = await helloOf({})
  t.strictSame(readClientHello(hello, false), { kind: 'tls', serverName: undefined, isOdd: false })
  t.equal(certainName(hello), '')
})

void t.test('policies believe of a name what is certain', async (t) => {
  const hello = await helloOf({ servername: 'cart.example' })
  t.equal(certainName(hello), 'cart.example')
  t.equal(certainName(Buffer.from('GET / HTTP/1.1\r\n')), '', 'it opens no TLS')
  for (const length of [0, 1, 5, 40, hello.length - 1])
    t.equal(certainName(hello.subarray(0, length)), undefined, `it has said ${length} bytes`)
  // A dot at the end, or a NUL: some servers take it for the name without.
  for (const last of ['.', '\0']) {
    const odd = Buffer.from(hello)
    odd.write(last, odd.indexOf('cart.example') + 'cart.exampl'.length, 'latin1')
    t.strictSame(readClientHello(odd, false), { kind: 'tls', serverName: undefined, isOdd: true })
    t.equal(certainName(odd), undefined)
  }
  const two = withAnotherName(hello, 'pay')
  const odd = { kind: 'tls', serverName: undefined, isOdd: true } as const
  t.strictSame(readClientHello(two, false), odd, 'of two nobody knows which counts')
})

/** The same message with one more extension that names a host of `.example`, before all others. */
function withAnotherName(hello: Buffer, host: string): Buffer {
  const name = `${host}.example`
  const extension = Buffer.from([0, 0, 0, name.length + 5, 0, name.length + 3, 0, 0, name.length])
  const added = Buffer.concat([extension, Buffer.from(name)])
  let at = 5 + 4 + 2 + 32
  at += 1 + (hello[at] ?? 0)
  at += 2 + hello.readUInt16BE(at)
  at += 1 + (hello[at] ?? 0)
  const longer = Buffer.concat([hello.subarray(0, at + 2), added, hello.subarray(at + 2)])
  longer.writeUInt16BE(hello.readUInt16BE(at) + added.length, at)
  longer.writeUInt16BE(hello.readUInt16BE(3) + added.length, 3)
  longer.writeUIntBE(hello.readUIntBE(6, 3) + added.length, 6, 3)
  return longer
}

void t.test('a message that is not whole is waited for, and then is none', async (t) => {
  const hello = await helloOf({ servername: 'a.example' })
  for (let length = 0; length < hello.length; length += 1) {
    const part = hello.subarray(0, length)
    if (readClientHello(part, false) !== undefined) t.fail(`${length} bytes are taken for whole`)
    t.strictSame(readClientHello(part, true), { kind: 'notTls' }, `${length} bytes`)
  }
})

void t.test('what is no TLS is none, as soon as it can be known', (t) => {
  for (const text of [
    'GET / HTTP/1.1\r\n',
    '\x16GET',
    '\x16\x03\x01\x00\x00',
    '\x16\x03\x01\x00\x04\x02\x00\x00\x00',
  ])
    t.strictSame(readClientHello(Buffer.from(text, 'latin1'), false), { kind: 'notTls' })
  t.strictSame(
    readClientHello(Buffer.from([22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff]), false),
    { kind: 'notTls' },
    'nobody waits for 16 MiB',
  )
  t.end()
})

void t.test('damaged messages are read without a fault', async () => {
  const hello = await helloOf({ servername: 'a.example' })
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(hello.length - 1), fc.nat(255))),
      fc.boolean(),
      (changes, isAll) => {
        const damaged = Buffer.from(hello)
        for (const [at, value] of changes) damaged[at] = value
        const read = readClientHello(damaged, isAll)
        return !isAll || read !== undefined
      },
    ),
  )
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      const kind = readClientHello(Buffer.from([22, 3, 1, ...bytes]), true)?.kind
      return kind === 'notTls' || kind === 'tls'
    }),
  )
})
