// SPDX-License-Identifier: Apache-2.0
// Connections to apps between requests: that a request does not meet one which its app is just closing.

import t from 'tap'
import { ok } from '../../mesh/result.ts'
import { DeadlineWheel } from '../../waypoint/exchange/deadline-wheel.ts'
import { OutgoingRequest } from '../../waypoint/exchange/outgoing-request.ts'
import type { Upstream } from '../../waypoint/exchange/upstream.ts'
import { EndpointChoice } from '../../waypoint/upstream/endpoint-choice.ts'
import { Http1Connections } from '../../waypoint/upstream/http1-connections.ts'
import type { ChosenUpstream, UpstreamCall, Upstreams } from '../../waypoint/upstream/upstreams.ts'
import { ip, sampleWorkload } from '../model/samples.ts'
import { ENDPOINT, FarEnd, message } from './harness.ts'

const TARGET = { address: ip('10.0.0.9'), port: 8080 }
const CALL: UpstreamCall = {
  backend: { kind: 'workload', target: TARGET },
  source: { address: undefined, identity: undefined, workload: undefined },
  target: TARGET,
  spoken: 'http/1.1',
}
const ATTEMPT = { avoid: undefined, mustBeFresh: false, number: 0 }
const NOTHING = (): void => undefined

/** Connections whose apps are in the test's hands, and a clock that is, too. */
function makeConnections() {
  let now = 0
  const apps: FarEnd[] = []
  const deadlines = new DeadlineWheel(() => now)
  const attempt = { opened: NOTHING, failed: NOTHING, end: NOTHING }
  const workload = sampleWorkload('app', { addresses: [TARGET.address] })
  const chosen: ChosenUpstream = {
    kind: 'plain',
    service: undefined,
    workload,
    target: TARGET,
    endpoint: { endpoint: workload.uid, port: TARGET.port },
    attempt,
    tls: undefined,
  }
  const upstreams: Pick<Upstreams, 'choose' | 'open'> = {
    choose: () => ok(chosen),
    open: () => {
      const pipe = Object.assign(new FarEnd(), { start: NOTHING })
      apps.push(pipe)
      return Promise.resolve(
        ok({ pipe, endpoint: ENDPOINT, chosen, attempt, peerIdentity: undefined }),
      )
    },
  }
  const connections = new Http1Connections({
    upstreams,
    choice: new EndpointChoice(upstreams),
    deadlines,
  })
  const connect = (isIdempotent: boolean): Promise<Upstream> =>
    new Promise((resolve, reject) => {
      connections.connect(
        CALL,
        { ...ATTEMPT, isIdempotent },
        { connected: resolve, failed: ({ message }) => reject(new Error(message)) },
      )
    })
  /** Asks once: by which connection, which is answered with such lines when the test says so. */
  const begin = async (isIdempotent: boolean) => {
    const upstream = await connect(isIdempotent)
    const request = new OutgoingRequest()
    upstream.begin(
      {
        onInterim: NOTHING,
        onAnswer: NOTHING,
        onSwitch: NOTHING,
        onAnswerData: NOTHING,
        onAnswerEnd: NOTHING,
        onFailed: NOTHING,
        onRoom: NOTHING,
      },
      request,
    )
    upstream.end(undefined)
    const place = apps.findIndex(({ sink }) => sink === (upstream as unknown))
    const answer = (...lines: string[]): void => {
      apps[place]?.send(message(['HTTP/1.1 200 OK', 'Content-Length: 0', ...lines]))
    }
    return { place, answer }
  }
  return {
    connections,
    apps,
    begin,
    pass: (ms: number): void => {
      now += ms
      deadlines.sweep()
    },
    ask: async (isIdempotent: boolean, ...lines: string[]): Promise<number> => {
      const { place, answer } = await begin(isIdempotent)
      answer(...lines)
      return place
    },
  }
}

void t.test('what may not be sent twice takes no connection that was idle for long', async (t) => {
  const { ask, pass, connections } = makeConnections()
  t.equal(await ask(true), 0)
  t.equal(await ask(false), 0, 'one that has just answered')
  pass(1_500)
  t.equal(await ask(false), 1, 'its app may be closing it')
  pass(1_500)
  t.equal(connections.idle, 2)
  t.equal(await ask(true), 1, 'what may be sent again takes the one used last')
  t.end()
})

void t.test('who says how long it keeps a connection has it closed before', async (t) => {
  const { ask, pass, connections, apps } = makeConnections()
  await ask(true, 'Keep-Alive: timeout=5, max=100')
  pass(3_900)
  t.equal(connections.idle, 1)
  pass(200)
  t.equal(connections.idle, 0)
  t.equal(apps[0]?.resetBy, 'ok')
  await ask(true, 'Keep-Alive: timeout=1')
  t.equal(connections.idle, 0, 'that is not worth keeping')
  await ask(true, 'Keep-Alive: timeout=900')
  pass(29_000)
  t.equal(connections.idle, 1)
  pass(1_100)
  t.equal(connections.idle, 0, 'not longer than the waypoint does')
  await ask(true, 'Keep-Alive: max=5, xtimeout=1')
  t.equal(connections.idle, 1, 'what says nothing of the time')
  t.end()
})

void t.test(
  'what a client has under way at once is kept in a lull, and not all of a burst',
  async (t) => {
    const { connections, apps, begin } = makeConnections()
    const rush = async (count: number): Promise<void> => {
      const answers = []
      for (let at = 0; at < count; at += 1) answers.push((await begin(true)).answer)
      for (const answer of answers) answer()
    }
    await rush(200)
    t.equal(connections.idle, 200)
    await rush(200)
    t.equal(apps.length, 200, 'nothing is opened anew')
    await rush(1_000)
    t.equal(connections.idle, 256)
  },
)
