// SPDX-License-Identifier: Apache-2.0
// Who gets into the dashboard and who does not, and agents that hang or answer garbage.

import t from 'tap'
import http from 'node:http'
import { once } from 'node:events'
import { createGate } from '../../cli/dashboard/server/gate.ts'
import { err, ok } from '../../mesh/result.ts'
import { until } from '../support/until.ts'
import { pretendCluster } from './pretend-cluster.ts'
import { pretendDashboard, TOKEN } from './pretend-dashboard.ts'

async function ask(url: string, headers: Readonly<Record<string, string>> = {}, method = 'GET') {
  const request = http.request(url, { headers, method }).end()
  const [response] = (await once(request, 'response')) as [http.IncomingMessage]
  let body = ''
  for await (const chunk of response.setEncoding('utf8')) body += String(chunk)
  return { status: response.statusCode, headers: response.headers, body }
}

void t.test('only the URL that was printed leads in, once, and then the cookie', async (t) => {
  const { origin, url, cookie } = await pretendDashboard(t, pretendCluster(4, 1))
  for (const path of ['/', '/api/graph', '/api/events', '/page/main.ts', '/nothing']) {
    const stranger = await ask(origin + path)
    t.equal(stranger.status, 403, path)
    t.notMatch(stranger.body, /shop/)
  }
  t.equal((await ask(`${origin}/?token=${TOKEN}x`)).status, 403)
  const arrival = await ask(url)
  t.match(arrival, { status: 303, headers: { location: '/' } })
  t.match(String(arrival.headers['set-cookie']), /; HttpOnly; SameSite=Strict; Path=\/$/)
  for (const path of [
    '/',
    '/api/graph',
    '/api/nodes',
    '/api/audit',
    '/page/main.ts',
    '/page/style.css',
  ]) {
    const { status, headers } = await ask(origin + path, { cookie: `other=1; ${cookie}` })
    t.equal(status, 200, path)
    t.match(headers['content-security-policy'], /default-src 'none'.*frame-ancestors 'none'/)
    t.match(headers, { 'x-content-type-options': 'nosniff', 'cache-control': 'no-store' })
  }
  t.match(await ask(`${origin}/page/main.ts`, { cookie }), {
    headers: { 'content-type': 'text/javascript; charset=utf-8' },
    body: /^ *\/\/ SPDX/,
  })
  for (const path of ['/page/..%2fserver%2fgate.ts', '/page/tsconfig.json', '/page/nothing.ts'])
    t.equal((await ask(origin + path, { cookie })).status, 404, path)
})

void t.test(
  'other sites and other names for loopback are turned away, cookie or not',
  async (t) => {
    const { origin, cookie } = await pretendDashboard(t, pretendCluster(4, 1))
    const { port } = new URL(origin)
    for (const headers of [
      { host: 'attacker.example' },
      { host: `attacker.example:${port}` },
      { host: '127.0.0.1' },
      { origin: 'http://attacker.example' },
      { origin: 'null' },
      { 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'same-site' },
    ] as readonly Readonly<Record<string, string>>[])
      t.equal(
        (await ask(`${origin}/api/graph`, { cookie, ...headers })).status,
        403,
        JSON.stringify(headers),
      )
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS'])
      t.equal((await ask(`${origin}/api/graph`, { cookie }, method)).status, 403, method)
    const local = {
      cookie,
      host: `localhost:${port}`,
      origin: `http://localhost:${port}`,
      'sec-fetch-site': 'same-origin',
    }
    t.equal((await ask(`${origin}/api/graph`, local)).status, 200)
  },
)

void t.test('the cookie of one dashboard opens no other', (t) => {
  const mine = createGate('mine', 8001)
  const cookie = mine.cookie.slice(0, mine.cookie.indexOf(';'))
  const visit = (gate: typeof mine, port: number) =>
    gate.judge({
      method: 'GET',
      headers: { host: `127.0.0.1:${port}`, cookie },
      urlToken: undefined,
    }).kind
  t.equal(visit(mine, 8001), 'welcome')
  t.equal(visit(createGate('theirs', 8002), 8002), 'refused')
  t.equal(visit(createGate('theirs', 8001), 8001), 'refused')
  t.end()
})

void t.test(
  'an agent that hangs and one that answers garbage hold up no other, and are named',
  async (t) => {
    const cluster = pretendCluster(20, 12)
    const never = Promise.withResolvers<ReturnType<typeof err<string>>>()
    // More than are asked at once: none of the others may wait behind them.
    for (let at = 0; at < 9; at += 1) cluster.spoil(`ambit-agent-${at}`, () => never.promise)
    cluster.spoil('ambit-agent-9', () => Promise.resolve(ok('<html>it works!</html>')))
    cluster.spoil('ambit-agent-10', () => Promise.resolve(ok('{"certificates": [], "capture": 7}')))
    const { poller, origin, cookie } = await pretendDashboard(t, cluster, { deadlineMs: 100 })
    const agent = (name: string) => poller.snapshot().agents.find(({ pod }) => pod === name)
    await until(() => poller.snapshot().agents.length === 12, 'the agents')
    t.equal((await ask(`${origin}/api/graph`, { cookie })).status, 200, 'the page waits for nobody')
    // Deadlines are the client's (below, its own): here those that hang give up by being told so.
    never.resolve(err('no whole answer within 5 s'))
    await until(() => agent('ambit-agent-11')?.facts !== undefined, 'an agent that is well')
    await until(() => agent('ambit-agent-10')?.silent !== undefined, 'the last one')
    t.match(agent('ambit-agent-0')?.silent, { reason: 'no whole answer within 5 s' })
    t.match(agent('ambit-agent-9')?.silent, { reason: /it is not JSON/ })
    t.match(agent('ambit-agent-10')?.silent, { reason: /no list "capture"/ })
    const since = agent('ambit-agent-9')?.silent?.since
    const nodes = JSON.parse((await ask(`${origin}/api/nodes`, { cookie })).body) as {
      readonly agents: readonly object[]
    }
    t.match(
      nodes.agents.find((each) => 'pod' in each && each.pod === 'ambit-agent-9'),
      {
        state: 'cannot be asked',
        silent: { since },
      },
    )
  },
)

void t.test('an agent that comes back is well again; what it knew stays meanwhile', async (t) => {
  const cluster = pretendCluster(6, 1)
  const { poller } = await pretendDashboard(t, cluster)
  const agent = () => poller.snapshot().agents[0]
  await until(() => poller.snapshot().mesh.workloads.length === 6, 'the mesh')
  cluster.spoil('ambit-agent-0', () => Promise.resolve(err('gone')))
  await until(() => agent()?.silent !== undefined, 'it is silent')
  t.equal(agent()?.facts?.standings.length, 6)
  cluster.spoil('ambit-agent-0', undefined)
  await until(() => agent()?.silent === undefined, 'it is back')
})

void t.test('a waypoint is asked as agents are, and is a node with its requests', async (t) => {
  const { poller, origin, cookie } = await pretendDashboard(t, pretendCluster(6, 1, 'odd', true))
  await until(() => poller.snapshot().waypoints[0]?.answeredAt !== undefined, 'the waypoint')
  const get = async (path: string): Promise<unknown> =>
    JSON.parse((await ask(`${origin}${path}`, { cookie })).body)
  t.match(await get('/api/graph'), {
    waypoints: [{ waypoint: 'shop/way', pod: 'way-1', state: 'ready', calls: 3, failed: 5 }],
  })
  const { nodes } = (await get('/api/graph')) as { readonly nodes: readonly object[] }
  t.ok(nodes.some((each) => 'id' in each && each.id === 'shop/way'))
  const { events } = (await get('/api/audit')) as { readonly events: readonly object[] }
  t.ok(events.some((each) => 'kind' in each && each.kind === 'request.denied'))
})

void t.test('open pages hear of news', async (t) => {
  const { origin, cookie } = await pretendDashboard(t, pretendCluster(4, 1))
  const request = http.get(`${origin}/api/events`, { headers: { cookie } })
  t.teardown(() => request.destroy())
  const [response] = (await once(request, 'response')) as [http.IncomingMessage]
  t.match(response.headers, {
    'content-type': /^text\/event-stream/,
    'content-security-policy': /default-src 'none'/,
  })
  let said = ''
  response.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  await until(() => said.split('data: news').length > 3, 'several events')
})
