// SPDX-License-Identifier: Apache-2.0
// What a request and its answer cost a waypoint beyond routing, TLS and the kernel: read, edited, framed and passed on between pipes
// that only copy. By itself: node bench/http-exchange.ts; waypoint/features.ts asks for what routes add to it.

import { headerEdits } from '../mesh/http/header-edits.ts'
import type { Pipe, PipeSink } from '../mesh/http/pipe.ts'
import type { IpAddress } from '../mesh/model/types.ts'
import { DeadlineWheel } from '../waypoint/exchange/deadline-wheel.ts'
import { Http1Upstream } from '../waypoint/exchange/http1-upstream.ts'
import { serveHttp1 } from '../waypoint/exchange/serve-http1.ts'
import { type MirrorEnd, Mirrors } from '../waypoint/exchange/mirrors.ts'
import type { ForwardOutcome, ServeContext } from '../waypoint/exchange/types.ts'

const REQUESTS = 50_000
const WARM_UP = 20_000
const ROUNDS = 5

/** As a browser's call through a gateway looks: 9 fields, some 440 bytes. */
const FIELDS = [
  'Host: catalog.shop.svc.cluster.local',
  'User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
  'Accept: application/json, text/plain, */*',
  'Accept-Language: en-US,en;q=0.5',
  'Accept-Encoding: gzip, deflate, br',
  'X-Request-Id: 0b5c1f6a-5b2e-4d0e-9a56-3a2d8f1e7c11',
  'X-Tenant: blue',
  'traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
  'Connection: keep-alive',
]
const BODY = 'x'.repeat(1_024)

const ANSWER_FIELDS = [
  'Content-Type: application/json',
  'Date: Sat, 28 Nov 2026 22:00:00 GMT',
  'Server: app',
]

function message(lines: readonly string[], body: string): Buffer {
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${body}`)
}

export interface ExchangeCase {
  readonly request: Buffer
  readonly answer: Buffer
}

export const GET: ExchangeCase = {
  request: message(['GET /api/v1/items/17?full=1 HTTP/1.1', ...FIELDS], ''),
  answer: message(['HTTP/1.1 200 OK', ...ANSWER_FIELDS, 'Content-Length: 1024'], BODY),
}

const CASES: Readonly<Record<string, ExchangeCase>> = {
  'GET, answer of 1 KiB by its length': GET,
  'POST of 1 KiB, chunked both ways': {
    request: message(
      ['POST /api/v1/items HTTP/1.1', ...FIELDS, 'Transfer-Encoding: chunked'],
      `400\r\n${BODY}\r\n0\r\n\r\n`,
    ),
    answer: message(
      ['HTTP/1.1 200 OK', ...ANSWER_FIELDS, 'Transfer-Encoding: chunked'],
      `400\r\n${BODY}\r\n0\r\n\r\n`,
    ),
  },
}

/** Copies what is written, as a true pipe does, and forgets it. */
class CopyingPipe implements Pipe {
  sink: PipeSink
  readonly #room = Buffer.allocUnsafeSlow(64 * 1024)

  constructor(sink: PipeSink) {
    this.sink = sink
  }

  write(chunk: Buffer, from: number, to: number): boolean {
    chunk.copy(this.#room, 0, from, to)
    return true
  }

  end(): void {
    throw new Error('a connection ended')
  }

  reset(): void {
    throw new Error('a connection was reset')
  }

  consume(): void {
    // Nobody sends faster than we read.
  }
}

const NOBODY: PipeSink = {
  receive: () => undefined,
  ended: () => undefined,
  broken: () => undefined,
  drained: () => undefined,
}

const FORWARD: ForwardOutcome = {
  kind: 'forward',
  backend: { kind: 'service', service: 'shop/catalog.shop.svc.cluster.local', port: 80 },
  target: undefined,
  authority: undefined,
  requestEdits: headerEdits({ set: [{ name: 'x-forwarded-proto', value: 'http' }] }),
  responseEdits: headerEdits({ add: [{ name: 'x-served-by', value: 'waypoint' }] }),
  requestMs: 15_000,
  backendRequestMs: 0,
  retry: undefined,
  mirrors: [],
  session: undefined,
}

const ENDPOINT = {
  address: { address: '10.0.0.9' as IpAddress, port: 80 },
  workload: undefined,
}

/** Microseconds of CPU of one exchange, the best of some rounds; `route` leads to the one app, and may have copies made to it. */
export function measureExchange(
  { request, answer }: ExchangeCase,
  route: ServeContext['route'] = () => FORWARD,
): number {
  return Math.min(...Array.from({ length: ROUNDS }, () => measure(request, answer, route)))
}

function measure(request: Buffer, answer: Buffer, route: ServeContext['route']): number {
  const deadlines = new DeadlineWheel()
  const client = new CopyingPipe(NOBODY)
  const idle: Http1Upstream[] = []
  const asked: CopyingPipe[] = []
  const pipes = new Map<Http1Upstream, CopyingPipe>()
  const owner = {
    idle: (upstream: Http1Upstream) => void idle.push(upstream),
    gone: () => undefined,
  }
  let copied = 0
  const mirrors = new Mirrors(({ result }: MirrorEnd) => {
    if (result === 'answered') copied += 1
  })
  let done = 0
  const context: ServeContext = {
    source: { address: undefined, identity: undefined, workload: undefined },
    deadlines,
    route,
    appProtocol: () => 'http1',
    connect: (_, waiter) => {
      let upstream = idle.pop()
      if (upstream === undefined) {
        const pipe = new CopyingPipe(NOBODY)
        upstream = new Http1Upstream(pipe, ENDPOINT, owner, deadlines)
        pipes.set(upstream, pipe)
      }
      asked.push(pipes.get(upstream) as CopyingPipe)
      waiter.connected(upstream)
      return () => undefined
    },
    mirror: (head, outcome, hasBody) => mirrors.begin(context, head, outcome, hasBody),
    record: ({ status }) => {
      if (status === 200) done += 1
    },
    closed: () => undefined,
  }
  serveHttp1(client, context)
  const exchange = (): void => {
    client.sink.receive(request, 0, request.length)
    for (let pipe = asked.pop(); pipe !== undefined; pipe = asked.pop())
      pipe.sink.receive(answer, 0, answer.length)
  }
  for (let count = 0; count < WARM_UP; count += 1) exchange()
  const started = process.cpuUsage()
  for (let count = 0; count < REQUESTS; count += 1) exchange()
  const { user, system } = process.cpuUsage(started)
  if (done !== WARM_UP + REQUESTS) throw new Error(`only ${done} exchanges were answered`)
  if (copied !== 0 && copied !== done) throw new Error(`${copied} of ${done} were copied`)
  return (user + system) / REQUESTS
}

if (import.meta.main)
  for (const [name, each] of Object.entries(CASES))
    console.log(`${name.padEnd(40)} ${measureExchange(each).toFixed(2)} us (best of ${ROUNDS})`)
