// SPDX-License-Identifier: Apache-2.0
// Ports are one process's, unless both want to share one.

import type { AddressInfo } from 'node:net'
import fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import { listen } from '../../mesh/program/listen.ts'

const HOST = '127.0.0.1'

// A server that listens on TCP has an address of this form.
const portOf = (app: FastifyInstance): number => (app.server.address() as AddressInfo).port

void t.test('a port that is taken is told with the flag to change', async (t) => {
  const [first, second] = [fastify(), fastify()]
  t.teardown(() => Promise.all([first.close(), second.close()]))
  await listen(first, { host: HOST, port: 0 }, '--first')
  const port = portOf(first)
  await t.rejects(listen(second, { host: HOST, port }, '--second-address'), {
    code: 'AMB_LISTEN',
    message: /Cannot listen for --second-address: .*EADDRINUSE/,
  })
  await t.rejects(
    listen(second, { host: HOST, port }, '--second-address', { reusePort: true }),
    { code: 'AMB_LISTEN' },
    'and is not shared by the wish of one alone',
  )
})

void t.test('two that share a port both listen, and either may go', async (t) => {
  const [first, second] = [fastify(), fastify()]
  t.teardown(() => Promise.all([first.close(), second.close()]))
  for (const [app, name] of [
    [first, 'first'],
    [second, 'second'],
  ] as const)
    app.get('/', () => name)
  await listen(first, { host: HOST, port: 0 }, '--first', { reusePort: true })
  const port = portOf(first)
  await listen(second, { host: HOST, port }, '--second', { reusePort: true })
  await first.close()
  const answer = await fetch(`http://${HOST}:${port}/`)
  t.equal(await answer.text(), 'second')
})
