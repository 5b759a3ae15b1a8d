// SPDX-License-Identifier: Apache-2.0
// SPDY as far as port forwarding needs it, against bytes that no kubectl sends. (test/lab/port-forward.test.ts has kubectl itself.)

import t from 'tap'
import { SpdySession } from '../../lab/kubernetes/own/apiserver/http/spdy.ts'
import { until } from '../support/until.ts'

/** A session, what it has sent, and why it gave up. */
function session() {
  const sent: Buffer[] = []
  const invalid: string[] = []
  const made = new SpdySession((bytes) => {
    sent.push(bytes)
    return true
  })
  made.onInvalid = (reason) => invalid.push(reason)
  return { made, sent, invalid }
}

const bytes = (hex: string): Buffer => Buffer.from(hex.replaceAll(' ', ''), 'hex')

await t.test('a ping is answered, in whatever pieces it comes', async (t) => {
  const { made, sent, invalid } = session()
  const ping = bytes('80030006 00000004 00000007')
  for (const byte of ping) made.receive(Buffer.from([byte]))
  await until(() => sent.length > 0, 'the answer')
  t.strictSame(sent, [ping])
  t.strictSame(invalid, [])
  made.close()
})

await t.test('what cannot be read ends the session, and says why', async (t) => {
  const cases = [
    [bytes('80030001 00ffffff'), 'a frame of 16777215 bytes'],
    [bytes('80020006 00000004 00000007'), 'not SPDY/3'],
    [bytes('80030001 00000004 00000001'), 'a SYN_STREAM without a stream'],
    [bytes('80030003 00000002 0000'), 'a RST_STREAM without a stream'],
    [bytes('80030001 0000000e 00000001 00000000 0000 deadbeef'), 'headers that cannot be read'],
  ] as const
  for (const [input, reason] of cases) {
    const { made, sent, invalid } = session()
    made.receive(input)
    await until(() => invalid.length > 0, reason)
    made.receive(bytes('80030006 00000004 00000007'))
    t.strictSame(invalid, [reason])
    t.strictSame(sent, [], 'and nothing is answered any more')
  }
})

await t.test('data and resets of streams that nobody opened are passed over', async (t) => {
  const { made, sent, invalid } = session()
  made.receive(bytes('00000005 01000002 6869'))
  made.receive(bytes('80030003 00000008 00000005 00000001'))
  made.receive(bytes('80030006 00000004 00000007'))
  await until(() => sent.length > 0, 'the answer to the ping behind them')
  t.strictSame(invalid, [])
  made.close()
})
