// SPDX-License-Identifier: Apache-2.0
// How many calls a caller may have under way, whoever it is: gRPC reads a whole message before anybody sees it.

import { Client, credentials, Metadata, Server, ServerCredentials, status } from '@grpc/grpc-js'
import t from 'tap'
import { callGate, type Standing } from '../../controller/auth/call-gate.ts'
import { ok } from '../../mesh/result.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'
import { asIs, unaryMethod } from '../support/raw-grpc.ts'
import { until } from '../support/until.ts'

const PATH = '/test/ask'

/** A server whose method answers when it is told to, and a client of one pod. */
async function world(standing: Standing) {
  const gate = callGate({
    authenticator: {
      authenticate: () =>
        Promise.resolve(
          ok({ namespace: 'ambit-system', serviceAccount: 'one', pod: { name: 'a', uid: 'a' } }),
        ),
    },
    log: createLogger('test', 'silent'),
    standingOf: () => standing,
    onCall: () => true,
    onAuthenticated: () => true,
    onRefused: () => undefined,
  })
  const server = new Server({ interceptors: [gate] })
  const answers: (() => void)[] = []
  const method = unaryMethod(PATH)
  server.addService(
    { ask: method },
    {
      ask: (_: unknown, answer: (error: null, bytes: Buffer) => void) =>
        void answers.push(() => answer(null, Buffer.alloc(0))),
    },
  )
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  )
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure())
  t.teardown(() => {
    client.close()
    server.forceShutdown()
  })
  const call = (): Promise<status> =>
    new Promise((resolve) =>
      client.makeUnaryRequest(PATH, asIs, asIs, Buffer.alloc(0), new Metadata(), (error) =>
        resolve(error?.code ?? status.OK),
      ),
    )
  return { call, answers }
}

for (const [standing, most] of [
  ['agent', 32],
  ['waypoint', 4],
  ['ordinary', 2],
] as const)
  void t.test(`of ${standing} ${most} calls are under way, and no more`, async (t) => {
    const { call, answers } = await world(standing)
    const calls = Array.from({ length: most }, call)
    await until(() => answers.length === most, 'the calls')
    t.equal(await call(), status.RESOURCE_EXHAUSTED)
    for (const answer of answers.splice(0)) answer()
    t.ok((await Promise.all(calls)).every((code) => code === status.OK))
    const next = call()
    await until(() => answers.length === 1, 'one more')
    answers[0]?.()
    t.equal(await next, status.OK, 'those that have ended do not count')
  })
