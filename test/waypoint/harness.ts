// SPDX-License-Identifier: Apache-2.0
// An exchange between pipes that the tests hold the far ends of: no sockets, no clock but the test's.

import type { Pipe, PipeSink } from '../../mesh/http/pipe.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import { DeadlineWheel } from '../../waypoint/exchange/deadline-wheel.ts'
import { Http1Upstream } from '../../waypoint/exchange/http1-upstream.ts'
import { type MirrorEnd, Mirrors } from '../../waypoint/exchange/mirrors.ts'
import { serveHttp1 } from '../../waypoint/exchange/serve-http1.ts'
import type {
  AnswerOutcome,
  Attempt,
  ConnectFailure,
  ForwardOutcome,
  RequestRecord,
  RouteOutcome,
  ServeContext,
  ServedConnection,
} from '../../waypoint/exchange/types.ts'
import type { Endpoint, UpstreamOwner } from '../../waypoint/exchange/upstream-connection.ts'
import type { RequestHead } from '../../mesh/http/message.ts'
import type { IpAddress } from '../../mesh/model/types.ts'

/** The far end of a pipe, in the test's hands. */
export class FarEnd implements Pipe {
  sink: PipeSink = NOBODY
  /** All that was written to it and not taken yet. */
  #written: Buffer[] = []
  hasEnded = false
  resetBy: EndReason | undefined
  /** Bytes that were sent and not consumed. */
  unconsumed = 0
  /** write() says so. */
  hasRoom = true

  write(chunk: Buffer, from: number, to: number): boolean {
    if (this.hasEnded || this.resetBy !== undefined) return true
    this.#written.push(Buffer.from(chunk.subarray(from, to)))
    return this.hasRoom
  }

  end(): void {
    this.hasEnded = true
  }

  reset(reason: EndReason): void {
    this.resetBy ??= reason
  }

  consume(bytes: number): void {
    this.unconsumed -= bytes
  }

  /** Sends bytes towards the waypoint, from memory that is used again as soon as they were taken. */
  send(text: string | Buffer): void {
    const bytes = Buffer.from(text as string, 'latin1')
    this.unconsumed += bytes.length
    this.sink.receive(bytes, 0, bytes.length)
    bytes.fill(0)
  }

  /** What came since the last call, but for the Date that an answer without one is given on its way. */
  take(): string {
    return this.takeAll().replaceAll(/^date: [^\r]*\r\n/gm, '')
  }

  /** The same with it. */
  takeAll(): string {
    const text = Buffer.concat(this.#written).toString('latin1')
    this.#written = []
    return text
  }

  /** Takes more from now on. */
  drain(): void {
    this.hasRoom = true
    this.sink.drained()
  }
}

const NOBODY: PipeSink = {
  receive: () => undefined,
  ended: () => undefined,
  broken: () => undefined,
  drained: () => undefined,
}

export const ENDPOINT: Endpoint = {
  address: { address: '10.0.0.9' as IpAddress, port: 8080 },
  workload: undefined,
}

export const FORWARD: ForwardOutcome = {
  kind: 'forward',
  backend: { kind: 'service', service: 'shop/catalog.shop.svc.cluster.local', port: 80 },
  target: undefined,
  authority: undefined,
  requestEdits: undefined,
  responseEdits: undefined,
  requestMs: 0,
  backendRequestMs: 0,
  retry: undefined,
  mirrors: [],
  session: undefined,
}

export const DENIED: AnswerOutcome = {
  kind: 'answer',
  status: 403,
  headers: [['x-why', 'policy']],
  body: 'no\n',
  flag: 'RBAC',
}

export interface World {
  readonly client: FarEnd
  readonly served: ServedConnection
  /** The connections that were opened to the app, oldest first. */
  readonly apps: FarEnd[]
  readonly attempts: Attempt[]
  readonly records: RequestRecord[]
  /** What became of copies. */
  readonly mirrored: MirrorEnd[]
  /** Idle connections to the app that the pool has. */
  readonly idle: Http1Upstream[]
  readonly heads: { readonly method: string; readonly target: string; readonly authority: string }[]
  closed: number
  /** The app the present request went to. */
  app(): FarEnd
  /** Opens what connect() was asked for and had to wait. */
  open(): void
  /** Lets so much time pass. */
  pass(ms: number): void
  readonly deadlines: DeadlineWheel
  calledOff: number
}

export interface WorldOptions {
  readonly route?: (head: RequestHead) => RouteOutcome
  /** Connections have to be opened by open(). */
  readonly isSlow?: boolean
  /** Serves the client; by HTTP/1.1 when not given. */
  readonly serve?: (client: Pipe, context: ServeContext) => ServedConnection
  /** Of an attempt: there is no connection. */
  readonly failure?: (attempt: Attempt) => ConnectFailure | undefined
}

export function makeWorld(options: WorldOptions = {}): World {
  let now = 0
  const deadlines = new DeadlineWheel(() => now)
  const client = new FarEnd()
  const waiting: (() => void)[] = []
  const mirrors = new Mirrors((end) => void world.mirrored.push(end))
  const owner: UpstreamOwner = {
    idle: (connection) => void world.idle.push(connection as Http1Upstream),
    gone: (connection) => {
      const at = world.idle.indexOf(connection as Http1Upstream)
      if (at >= 0) world.idle.splice(at, 1)
    },
  }
  const open = (): Http1Upstream => {
    const pipe = new FarEnd()
    world.apps.push(pipe)
    return new Http1Upstream(pipe, ENDPOINT, owner, deadlines)
  }
  const world: World = {
    client,
    served: undefined as unknown as ServedConnection,
    apps: [],
    attempts: [],
    records: [],
    mirrored: [],
    idle: [],
    heads: [],
    closed: 0,
    calledOff: 0,
    deadlines,
    app: () => world.apps.at(-1) as FarEnd,
    open: () => waiting.shift()?.(),
    pass: (ms) => {
      for (let left = ms; left > 0; left -= 50) {
        now += Math.min(50, left)
        deadlines.sweep()
      }
    },
  }
  const context: ServeContext = {
    source: { address: undefined, identity: undefined, workload: undefined },
    deadlines,
    route: (head) => {
      const { method, target, authority } = head
      world.heads.push({ method, target, authority })
      return options.route?.(head) ?? FORWARD
    },
    appProtocol: () => 'http1',
    connect: (attempt, waiter) => {
      world.attempts.push(attempt)
      const failure = options.failure?.(attempt)
      if (failure !== undefined) {
        waiter.failed(failure)
        return () => undefined
      }
      if (options.isSlow === true) {
        waiting.push(() => waiter.connected(open()))
        return () => {
          world.calledOff += 1
        }
      }
      const reused = attempt.mustBeFresh ? undefined : world.idle.pop()
      waiter.connected(reused ?? open())
      return () => undefined
    },
    mirror: (head, outcome, hasBody) => mirrors.begin(context, head, outcome, hasBody),
    record: (finished) => void world.records.push(finished),
    closed: () => {
      world.closed += 1
    },
  }
  const served = (options.serve ?? serveHttp1)(client, context)
  return Object.assign(world, { served })
}

/** A message: lines joined as HTTP does, an empty line, and a body. */
export function message(lines: readonly string[], body = ''): string {
  return `${lines.join('\r\n')}\r\n\r\n${body}`
}

export const GET = message(['GET /a?b=c HTTP/1.1', 'Host: catalog'])
export const OK = message(['HTTP/1.1 200 OK', 'Content-Length: 2'], 'hi')

/** Has the app answer whatever is complete, until nothing moves. */
export function answerAll(world: World): void {
  for (let answered = 0; world.records.length < world.heads.length; ) {
    if (answered === world.heads.length) return
    answered = world.heads.length
    const app = world.apps.at(-1)
    if (app !== undefined && app.resetBy === undefined) app.send(OK)
  }
}
