// SPDX-License-Identifier: Apache-2.0
// The engine against h2spec: all cases, generic, framing, HPACK and messages, but those in the tables here. A case in a
// table that passes fails the test too, so that the tables stay true.
// Twice, for our server refuses what h2spec asks for (it sends no CONNECT) as soon as the headers are there, and then there
// is no stream whose states could be tried: as that server answers, and with streams that live.

import { once } from 'node:events'
import { type AddressInfo, type Socket, createServer } from 'node:net'
import t, { type Test } from 'tap'
import { rejectStream } from '../../mesh/hbone/incoming.ts'
import { HELD_LIMIT_BYTES, SERVER_SETTINGS } from '../../mesh/hbone/limits.ts'
import { readConnect } from '../../mesh/hbone/request.ts'
import { H2Connection, type H2ConnectionOptions } from '../../mesh/http2/connection.ts'
import { HeldMemory } from '../../mesh/http2/held-memory.ts'
import { DEFAULT_MAX_FRAME_BYTES, H2_CODE } from '../../mesh/http2/protocol.ts'
import type { H2Settings } from '../../mesh/http2/settings.ts'
import { type H2Stream, IGNORING_SINK, type StreamSink } from '../../mesh/http2/stream.ts'
import { SocketWire } from '../../mesh/http2/wire.ts'
import { findH2spec, runH2spec } from './h2spec.ts'

type OnRequest = H2ConnectionOptions['onRequest']

const program = findH2spec()
const skip =
  program === undefined
    ? 'h2spec is missing: AMBIT_H2SPEC names it, or scripts/setup.sh test builds it where go is'
    : false

/** As mesh/hbone/server.ts answers. */
const connectOnly: OnRequest = (stream, headers, isTooLarge) => {
  if (isTooLarge) return rejectStream(stream, 431)
  const request = readConnect(headers)
  if (request.ok || request.error.kind !== 'malformed') return rejectStream(stream, 400)
  stream.sink = IGNORING_SINK
  stream.reset(H2_CODE.protocolError)
}

/** Takes any request that is not malformed as if it were a CONNECT, and answers when its end came. */
const tunnels: OnRequest = (stream, headers, isTooLarge) => {
  stream.sink = new Answering(stream)
  const request = readConnect(headers)
  if (isTooLarge || (!request.ok && request.error.kind === 'malformed'))
    stream.reset(H2_CODE.protocolError)
}

class Answering implements StreamSink {
  readonly #stream: H2Stream

  constructor(stream: H2Stream) {
    this.#stream = stream
  }

  onData(chunk: Buffer): boolean {
    this.#stream.consume(chunk.length)
    return false
  }

  onEnd(): void {
    this.#stream.sendHeaders([[':status', '200']], false)
    this.#stream.write(Buffer.from('hello world'), true)
    this.#stream.end()
  }

  onReset(): boolean {
    return false
  }

  onHeaders(): void {}
  onWritable(): void {}
  onClosed(): void {}
}

const REFUSED = 'the request is refused, and the stream gone, before the case gets to its point'
const NO_BODY = 'a refusal has no body, whose DATA the case waits for'
const NO_GET = 'requests other than CONNECT are refused with 400, whatever their fields'

/** Cases that cannot apply to a server that takes nothing but CONNECT. */
const NOT_FOR_CONNECT_ONLY: Readonly<Record<string, string>> = {
  'generic/2 Sends a WINDOW_UPDATE frame on half-closed (remote) stream': NO_BODY,
  'generic/2 Sends a PRIORITY frame on half-closed (remote) stream': NO_BODY,
  'http2/4.2 Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE':
    'we announce frames of 1 MiB; the case sends 20 KB and means the default of 16 KiB',
  'http2/5.1 closed: Sends a DATA frame after sending RST_STREAM frame': REFUSED,
  'http2/5.1 closed: Sends a HEADERS frame after sending RST_STREAM frame': REFUSED,
  'http2/5.1.2 Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded':
    REFUSED,
  'http2/6.5.3 Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE': NO_BODY,
  'http2/6.9 Sends a WINDOW_UPDATE frame with a flow control window increment of 0 on a stream':
    REFUSED,
  'http2/6.9.1 Sends SETTINGS frame to set the initial window size to 1 and sends HEADERS frame':
    NO_BODY,
  'http2/6.9.1 Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream':
    REFUSED,
  'http2/6.9.2 Changes SETTINGS_INITIAL_WINDOW_SIZE after sending HEADERS frame': NO_BODY,
  'http2/6.9.2 Sends a SETTINGS frame for window size to be negative': NO_BODY,
  'http2/8.1 Sends a second HEADERS frame without the END_STREAM flag': REFUSED,
  'http2/8.1.2.1 Sends a HEADERS frame that contains a pseudo-header field as trailers': REFUSED,
  'http2/8.1.2.3 Sends a HEADERS frame with empty ":path" pseudo-header field': NO_GET,
  'http2/8.1.2.3 Sends a HEADERS frame that omits ":scheme" pseudo-header field': NO_GET,
  'http2/8.1.2.3 Sends a HEADERS frame that omits ":path" pseudo-header field': NO_GET,
  'http2/8.1.2.6 Sends a HEADERS frame with the "content-length" header field which does not equal the DATA frame payload length':
    NO_GET,
  'http2/8.1.2.6 Sends a HEADERS frame with the "content-length" header field which does not equal the sum of the multiple DATA frames payload length':
    NO_GET,
}

const NOT_OURS =
  'what a GET may say is for whoever serves GET; a tunnel has neither path nor length'

/** Cases that the engine, as far as it is made for CONNECT, leaves to a later general server. */
const NOT_FOR_TUNNELS: Readonly<Record<string, string>> = {
  'generic/4 Sends a POST request with trailers':
    'RFC 9113 8.5: after the CONNECT and its answer there is only DATA',
  'http2/8.1.2.3 Sends a HEADERS frame with empty ":path" pseudo-header field': NOT_OURS,
  'http2/8.1.2.3 Sends a HEADERS frame that omits ":scheme" pseudo-header field': NOT_OURS,
  'http2/8.1.2.3 Sends a HEADERS frame that omits ":path" pseudo-header field': NOT_OURS,
  'http2/8.1.2.6 Sends a HEADERS frame with the "content-length" header field which does not equal the DATA frame payload length':
    NOT_OURS,
  'http2/8.1.2.6 Sends a HEADERS frame with the "content-length" header field which does not equal the sum of the multiple DATA frames payload length':
    NOT_OURS,
}

/** h2spec 2.2.1 has 145; fewer mean that the report was not understood. */
const LEAST_CASES = 140

async function serve(t: Test, settings: H2Settings, onRequest: OnRequest): Promise<number> {
  const sockets = new Set<Socket>()
  const memory = new HeldMemory(HELD_LIMIT_BYTES)
  const server = createServer((socket) => {
    sockets.add(socket)
    new H2Connection({
      role: 'server',
      wire: new SocketWire(socket),
      settings,
      memory,
      settingsDeadlineMs: 10_000,
      pingIntervalMs: 10_000,
      pingTimeoutMs: 20_000,
      onReady: () => undefined,
      onRequest,
      onStreamClosed: () => undefined,
      onClosed: () => sockets.delete(socket),
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return (server.address() as AddressInfo).port
}

async function conforms(
  t: Test,
  port: number,
  exceptions: Readonly<Record<string, string>>,
): Promise<void> {
  const cases = await runH2spec(program ?? '', port)
  t.ok(cases.length >= LEAST_CASES, `${cases.length} cases were run`)
  for (const { name, outcome, detail } of cases) {
    const reason = exceptions[name]
    if (reason === undefined) t.equal(outcome, 'passed', `${name} ${detail}`)
    else t.not(outcome, 'passed', `${name}: not for us, ${reason}`)
  }
  const names = new Set(cases.map(({ name }) => name))
  t.same(
    Object.keys(exceptions).filter((name) => !names.has(name)),
    [],
    'every exception names a case',
  )
}

await t.test('the CONNECT-only server passes h2spec but for its table', { skip }, async (t) =>
  conforms(t, await serve(t, SERVER_SETTINGS, connectOnly), NOT_FOR_CONNECT_ONLY),
)

await t.test('streams that live pass h2spec but for its table', { skip }, async (t) => {
  // What h2spec takes for granted.
  const settings = { ...SERVER_SETTINGS, maxFrameBytes: DEFAULT_MAX_FRAME_BYTES }
  await conforms(t, await serve(t, settings, tunnels), NOT_FOR_TUNNELS)
})
