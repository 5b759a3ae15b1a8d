// SPDX-License-Identifier: Apache-2.0
// The one way to ask a component's admin port: whole answers, answers as they come, and those that do not.

import { EventEmitter, once } from 'node:events'
import http from 'node:http'
import net, { type AddressInfo } from 'node:net'
import t from 'tap'
import { askAdmin, openAdmin } from '../../cli/cluster/admin.ts'
import { auditLines } from '../../cli/cluster/audit-lines.ts'
import type { ClusterTarget } from '../../cli/cluster/target.ts'
import { createKubeApi } from '../../mesh/kube/index.ts'
import { ok } from '../../mesh/result.ts'
import { stopTime } from '../support/stop-time.ts'

/** A component that answers so, and how to reach it. */
async function component(
  t: { teardown(end: () => void): void },
  answer: (request: http.IncomingMessage, response: http.ServerResponse) => void,
): Promise<ClusterTarget> {
  const server = http.createServer(answer).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return {
    // Nobody asks the API server here.
    api: createKubeApi({
      server: new URL('http://127.0.0.1:1'),
      namespace: 'default',
      source: 'test',
      credentials: () => Promise.reject(new Error('there are none')),
    }),
    systemNamespace: 'ambit-system',
    connect: () => Promise.resolve(ok(net.connect(port, '127.0.0.1'))),
  }
}

void t.test('an answer is read whole, and a refusal says why', async (t) => {
  const target = await component(t, (request, response) => {
    const isKnown = request.url === '/known'
    response.writeHead(isKnown ? 200 : 404)
    response.end(JSON.stringify(isKnown ? { method: request.method } : { error: 'no such path' }))
  })
  t.match(await askAdmin(target, { pod: 'a', path: '/known', method: 'POST' }), {
    ok: true,
    value: { method: 'POST' },
  })
  t.match(await askAdmin(target, { pod: 'a', path: '/other' }), {
    ok: false,
    error: 'no such path',
  })
})

void t.test('who does not answer, or stops in the middle, holds nobody up', async (t) => {
  // Time passes when the question, or the beginning of the answer, has come.
  const tick = stopTime(t)
  const came = new EventEmitter()
  const target = await component(t, (request, response) => {
    if (request.url === '/middle') response.write('{')
    else came.emit('question')
  })
  const connect: ClusterTarget['connect'] = async (pod) => {
    const connected = await target.connect(pod)
    if (connected.ok) connected.value.once('data', () => setImmediate(() => came.emit('answer')))
    return connected
  }
  for (const [path, what, error] of [
    ['/never', 'question', /^no answer within 0\.2 s/],
    ['/middle', 'answer', /^no whole answer within 0\.2 s/],
  ] as const) {
    const asked = askAdmin({ ...target, connect }, { pod: 'a', path, deadlineMs: 200 })
    await once(came, what)
    tick(200)
    t.match(await asked, { ok: false, error })
  }
})

void t.test('time that connecting takes counts', async (t) => {
  const tick = stopTime(t)
  const target = await component(t, () => t.fail('it is not asked any more'))
  const ends: Promise<unknown>[] = []
  const connect: ClusterTarget['connect'] = async (pod) => {
    const connected = await target.connect(pod)
    if (connected.ok) ends.push(once(connected.value, 'close'))
    tick(200)
    return connected
  }
  t.match(await askAdmin({ ...target, connect }, { pod: 'a', path: '/', deadlineMs: 200 }), {
    ok: false,
    error: 'no answer within 0.2 s',
  })
  await Promise.all(ends)
  t.equal(ends.length, 1, 'and the connection is closed')
})

void t.test('a followed audit gives lines as they come, until it is told to end', async (t) => {
  const target = await component(t, (request, response) => {
    t.equal(request.url, '/audit?namespace=shop&follow=true')
    response.write('{"n":1}\n')
  })
  const ended = new AbortController()
  const lines: string[] = []
  const asked = { pod: 'a', namespace: 'shop', sinceSeconds: undefined, follow: true }
  await auditLines(target, { ...asked, signal: ended.signal }, (line) => {
    lines.push(line)
    ended.abort()
  })
  t.same(lines, ['{"n":1}'])
})

void t.test('a component that goes away while it is followed is named', async (t) => {
  const target = await component(t, (_request, response) => {
    response.write('{"n":1}\n')
    response.socket?.resetAndDestroy()
  })
  const { signal } = new AbortController()
  const asked = { pod: 'agent-x', namespace: undefined, sinceSeconds: undefined, follow: true }
  await t.rejects(
    auditLines(target, { ...asked, signal }, () => undefined),
    { code: 'AMB_AGENT_UNREACHABLE', message: /agent-x/ },
  )
})

void t.test('who has been told to end before is not asked', async (t) => {
  const target = await component(t, (_request, response) => void response.end('{}'))
  const opened = await openAdmin(target, { pod: 'a', path: '/' }, AbortSignal.abort())
  t.equal(opened.ok, false)
})
