// SPDX-License-Identifier: Apache-2.0
// Asking an agent again and again over one connection: kept while it holds, made anew when it does not, and never waited for without end.

import t, { type Test } from 'tap'
import http from 'node:http'
import net from 'node:net'
import type { AddressInfo } from 'node:net'
import { Duplex } from 'node:stream'
import { agentClient } from '../../cli/dashboard/poll/agent-client.ts'
import type { ClusterTarget } from '../../cli/cluster/target.ts'
import { err, ok } from '../../mesh/result.ts'
import { deadline } from '../helpers.ts'

/** A server, and a client that reaches it through what is no socket, as through an API server. */
async function setting(t: Test, answer: http.RequestListener) {
  const server = http.createServer(answer)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const made: Duplex[] = []
  const target = {
    systemNamespace: 'ambit-system',
    connect: () => {
      const socket = net.connect(port, '127.0.0.1')
      // Its types know only the web's streams.
      const ends = { readable: socket, writable: socket } as unknown
      const through = Duplex.from(ends as Parameters<typeof Duplex.from>[0])
      made.push(through)
      return Promise.resolve(ok(through))
    },
  } as unknown as ClusterTarget
  const client = agentClient(target, 'ambit-agent-x')
  t.teardown(() => {
    client.close()
    server.closeAllConnections()
    server.close()
  })
  const ask = (path: string, deadlineMs = deadline(5_000)) =>
    client.ask({ port: 15_000, path, deadlineMs, mostBytes: 1_000 })
  return { ask, made }
}

void t.test('many questions go over one connection', async (t) => {
  const warnings: Error[] = []
  const onWarning = (warning: Error): void => void warnings.push(warning)
  process.on('warning', onWarning)
  t.teardown(() => process.off('warning', onWarning))
  const { ask, made } = await setting(t, (_request, response) => response.end('well'))
  for (let at = 0; at < 30; at += 1) t.strictSame(await ask('/metrics'), ok('well'))
  t.equal(made.length, 1)
  t.strictSame(warnings, [])
})

void t.test('one that is lost is made anew', async (t) => {
  const { ask, made } = await setting(t, (_request, response) => response.end('well'))
  await ask('/metrics')
  made[0]?.destroy()
  const answer = await ask('/metrics')
  t.strictSame(answer.ok ? answer : await ask('/metrics'), ok('well'))
  t.equal(made.length, 2)
})

void t.test('silence ends at the deadline, and with it the connection', async (t) => {
  let isSilent = true
  const { ask, made } = await setting(t, (_request, response) => {
    if (!isSilent) response.end('well')
    else response.write('the beginning')
  })
  t.match(await ask('/config_dump', 50), { ok: false, error: 'no whole answer within 0.05 s' })
  isSilent = false
  t.strictSame(await ask('/config_dump'), ok('well'))
  t.equal(made.length, 2)
})

void t.test(
  'an answer without end, and one that is a refusal, are failures in words',
  async (t) => {
    const { ask } = await setting(t, (request, response) => {
      if (request.url === '/refused') response.writeHead(403).end('no')
      else response.end('x'.repeat(2_000))
    })
    t.match(await ask('/audit'), { ok: false, error: /longer than 1000 bytes/ })
    t.match(await ask('/refused'), { ok: false, error: 'it answers /refused with status 403' })
  },
)

void t.test('where nobody can be reached the reason is told', async (t) => {
  const target = {
    systemNamespace: 'ambit-system',
    connect: () => Promise.resolve(err('the pod is gone')),
  } as unknown as ClusterTarget
  const client = agentClient(target, 'ambit-agent-x')
  const asked = { port: 15_000, path: '/', deadlineMs: deadline(5_000), mostBytes: 10 }
  t.strictSame(await client.ask(asked), err('the pod is gone'))
  client.close()
})
