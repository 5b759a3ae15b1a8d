// SPDX-License-Identifier: Apache-2.0
// What a waypoint serves as HTTP/2 against h2spec: all cases, generic, framing, HPACK and messages, but those in the table here. A case in
// the table that passes fails the test too, so that the table stays true.

import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { FieldList } from '../../mesh/http/field-list.ts'
import { HELD_LIMIT_BYTES } from '../../mesh/hbone/limits.ts'
import { HeldMemory } from '../../mesh/http2/held-memory.ts'
import { SocketPipe } from '../../mesh/relay/socket-pipe.ts'
import { DeadlineWheel } from '../../waypoint/exchange/deadline-wheel.ts'
import { serveHttp } from '../../waypoint/exchange/serve-http.ts'
import type { Upstream, UpstreamUser } from '../../waypoint/exchange/upstream.ts'
import { findH2spec, runH2spec } from '../http2/h2spec.ts'
import { ENDPOINT, FORWARD } from './harness.ts'

const program = findH2spec()
const skip =
  program === undefined
    ? 'h2spec is missing: AMBIT_H2SPEC names it, or scripts/setup.sh test builds it where go is'
    : false

/** h2spec 2.2.1 has 145; fewer mean that the report was not understood. */
const LEAST_CASES = 140

const NOT_FOR_US: Readonly<Record<string, string>> = {
  'http2/3.5 Sends invalid connection preface':
    'what does not begin as HTTP/2 is HTTP/1.1, and is answered and closed as that',
}
const BODY = Buffer.from('hello world')

/** An app that answers when a request is complete. */
class Answering implements Upstream {
  readonly endpoint = ENDPOINT
  readonly isReused = false
  readonly mayRefuse = false
  readonly hasAnswerBytes = false
  #user: UpstreamUser | undefined

  begin(user: UpstreamUser): boolean {
    this.#user = user
    return true
  }

  data(): boolean {
    return true
  }

  end(): void {
    queueMicrotask(() => {
      const user = this.#user
      const { length } = BODY
      const fields = new FieldList([['content-length', `${length}`]])
      user?.onAnswer(Object.assign(fields, { status: 200, bodyLength: length, nominated: [] }))
      user?.onAnswerData(BODY, 0, length)
      user?.onAnswerEnd(undefined)
    })
  }

  credit(): void {}

  cut(): void {
    this.#user = undefined
  }
}

async function serve(t: Test): Promise<number> {
  const sockets = new Set<Socket>()
  const memory = new HeldMemory(HELD_LIMIT_BYTES)
  const deadlines = new DeadlineWheel()
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    const pipe = new SocketPipe(socket, 'client')
    serveHttp(
      pipe,
      {
        source: { address: undefined, identity: undefined, workload: undefined },
        deadlines,
        route: () => FORWARD,
        appProtocol: () => 'http1',
        connect: (_, waiter) => {
          waiter.connected(new Answering())
          return () => undefined
        },
        mirror: () => undefined,
        record: () => undefined,
        closed: () => void sockets.delete(socket),
      },
      () => ({ memory, accounts: {} }),
    )
    pipe.start()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return (server.address() as AddressInfo).port
}

void t.test('h2spec has nothing to say against it, but for its table', { skip }, async (t) => {
  const cases = await runH2spec(program ?? '', await serve(t))
  t.ok(cases.length >= LEAST_CASES, `${cases.length} cases were run`)
  for (const { name, outcome, detail } of cases) {
    const reason = NOT_FOR_US[name]
    if (reason === undefined) t.equal(outcome, 'passed', `${name} ${detail}`)
    else t.not(outcome, 'passed', `${name}: not for us, ${reason}`)
  }
  const names = new Set(cases.map(({ name }) => name))
  t.ok(
    Object.keys(NOT_FOR_US).every((name) => names.has(name)),
    'every exception names a case',
  )
})
