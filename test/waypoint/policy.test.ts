// SPDX-License-Identifier: Apache-2.0
// Calls and requests through a waypoint that policies judge, with real tunnels at its ends: what the client is told, what the app sees, and
// what is on record.

import { once } from 'node:events'
import { createServer } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { connect as connectTls } from 'node:tls'
import t from 'tap'
import type { IncomingTunnel, OpenedTunnel } from '../../mesh/hbone/types.ts'
import { EMPTY_MATCH, type PolicyKey } from '../../mesh/model/policy.ts'
import type { WaypointPolicy } from '../../mesh/model/waypoint-policy.ts'
import { testIdentity } from '../hbone/certs.ts'
import { echo } from '../hbone/harness.ts'
import { waypointPolicy } from '../policy/request/samples.ts'
import { until } from '../support/until.ts'
import { closed, makeWaypointWorld, OWN_WAYPOINT, SHOP_KEY, type World } from './world.ts'

const exact = (text: string) => ({ kind: 'exact', text }) as const
const prefix = (text: string) => ({ kind: 'prefix', text }) as const

/** Serves requests that come by tunnels, and writes down their paths. */
function app(paths: string[]): (incoming: IncomingTunnel) => void {
  const server = createServer((request, response) => {
    paths.push(request.url ?? '')
    response.end('served')
  })
  const nothing = (): void => undefined
  return (incoming) => {
    const tunnel = incoming.accept({})
    tunnel.on('error', nothing)
    server.emit(
      'connection',
      Object.assign(tunnel, { setKeepAlive: nothing, setNoDelay: nothing, setTimeout: nothing }),
    )
  }
}

/** Asks over one tunnel, one request after the other: gives each status and body. */
function asker(tunnel: OpenedTunnel['tunnel']): (head: string) => Promise<string> {
  let had = ''
  tunnel.on('data', (chunk: Buffer) => {
    had += chunk.toString('latin1')
  })
  return async (head) => {
    tunnel.write(`${head} HTTP/1.1\r\nhost: catalog.shop\r\n\r\n`)
    for (;;) {
      const answer = /^HTTP\/1\.1 (\d+)[^]*?\r\n\r\n/.exec(had)
      const length = Number(/content-length: (\d+)/i.exec(answer?.[0] ?? '')?.[1])
      const end = (answer?.[0].length ?? 0) + length
      if (answer !== null && had.length >= end) {
        const body = had.slice(answer[0].length, end)
        had = had.slice(end)
        return `${answer[1]} ${body}`
      }
      await once(tunnel, 'data')
    }
  }
}

const set = (world: World, policy: WaypointPolicy): void =>
  world.apply({ kind: 'waypointPolicy', policy })

void t.test('a request is denied by its path, however that is written', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http1' })
  const paths: string[] = []
  await world.addPod('v1', app(paths))
  set(world, waypointPolicy('no-admin', 'deny', [{ paths: [exact('/admin'), prefix('/admin/')] }]))
  const ask = asker(await world.tunnel())
  const tricks = ['/./admin', '/a/../admin', '/%61dmin', '/a/%2e%2e/admin', '/x\\..\\admin']
  for (const path of ['/admin', '/admin/x', '/admin?x=/', ...tricks])
    t.equal(await ask(`GET ${path}`), '403 RBAC: access denied', path)
  t.strictSame(paths, [], 'the app has seen none of them')
  for (const path of ['/', '/Admin', '//admin', '/administrator'])
    t.equal(await ask(`GET ${path}`), '200 served', `${path} is another path`)
  t.strictSame(paths, ['/', '/Admin', '//admin', '/administrator'])
  t.match(world.requests[0], {
    status: 403,
    flag: 'RBAC',
    outcome: { refusal: { by: { rule: 0 } } },
  })
  t.match(world.audit[0], {
    kind: 'request.denied',
    namespace: 'shop',
    who: testIdentity('client'),
    what: 'GET catalog.shop/admin of Service shop/catalog at 10.96.0.50:80',
    object: 'AuthorizationPolicy shop/no-admin',
    rule: 0,
    why: 'explicitly denied by: shop/no-admin',
    details: { path: '/admin', method: 'GET', waypoint: 'shop/way' },
  })
  t.equal(world.audit.length, 8)
})

void t.test(
  'beyond the budget of the audit, requests are refused and told of no more',
  async (t) => {
    const world = await makeWaypointWorld(t, { protocol: 'http1', auditBudget: 3 })
    await world.addPod('v1', app([]))
    const match = { paths: [exact('/x')] }
    set(world, waypointPolicy('trial', 'deny', [match], { isDryRun: true }))
    set(world, waypointPolicy('watch', 'deny', [match], { isDryRun: true, isAudit: true }))
    set(world, waypointPolicy('deny', 'deny', [match]))
    const ask = asker(await world.tunnel())
    for (let time = 0; time < 3; time += 1) t.equal(await ask('GET /x'), '403 RBAC: access denied')
    t.match(world.audit, [
      { kind: 'request.dryRun' },
      { kind: 'request.audited' },
      { kind: 'request.denied' },
    ])
    t.equal(world.audit.length, 3)
  },
)

void t.test('where there is an ALLOW policy, what it does not allow is denied', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http1' })
  await world.addPod('v1', app([]))
  const mine = { ...EMPTY_MATCH, principals: [exact('cluster.local/ns/shop/sa/client')] }
  set(world, waypointPolicy('read', 'allow', [{ methods: [exact('GET')], connection: mine }]))
  const ask = asker(await world.tunnel())
  t.equal(await ask('GET /'), '200 served')
  t.equal(await ask('DELETE /'), '403 RBAC: access denied')
  t.match(world.audit, [
    { why: 'allow policies exist, but none allowed: shop/read', rule: undefined },
  ])
  const other = asker(await (await world.asAnother('other')).tunnel())
  t.equal(await other('GET /'), '403 RBAC: access denied', 'another client')
})

void t.test('a change takes force with the next request of an open connection', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http1' })
  await world.addPod('v1', app([]))
  const ask = asker(await world.tunnel())
  t.equal(await ask('GET /'), '200 served')
  const policy = waypointPolicy('p', 'deny', [{ methods: [exact('GET')] }])
  set(world, policy)
  t.equal(await ask('GET /'), '403 RBAC: access denied')
  set(world, waypointPolicy('p', 'deny', [{ methods: [exact('PUT')] }]))
  t.equal(await ask('GET /'), '200 served')
  set(world, policy)
  t.equal(await ask('GET /'), '403 RBAC: access denied')
  world.apply({ kind: 'waypointPolicyRemoved', key: policy.key })
  t.equal(await ask('GET /'), '200 served')
})

const OTHER_WAYPOINT = {
  ...OWN_WAYPOINT,
  destination: { ...OWN_WAYPOINT.destination, hostname: 'next.shop.svc.cluster.local' },
} as typeof OWN_WAYPOINT

/** The Service is bound to another waypoint, and this one is told of its policies no more. */
function move(world: World, policy: WaypointPolicy): void {
  const service = world.mesh.service(SHOP_KEY)
  if (service === undefined) throw new Error('there is no Service')
  world.apply({ kind: 'service', service: { ...service, waypoint: OTHER_WAYPOINT } })
  world.apply({ kind: 'waypointPolicyRemoved', key: policy.key })
}

void t.test(
  'what has moved to another waypoint is judged there, and served here no more',
  async (t) => {
    const deny = waypointPolicy('p', 'deny', [{ paths: [exact('/admin')] }], {
      targets: [{ kind: 'service', namespace: 'shop', name: 'catalog' }],
    })
    await t.test('an idle connection is closed', async (t) => {
      const world = await makeWaypointWorld(t, { protocol: 'http1' })
      await world.addPod('v1', app([]))
      set(world, deny)
      const tunnel = await world.tunnel()
      t.equal(await asker(tunnel)('GET /'), '200 served')
      move(world, deny)
      await closed(tunnel)
    })
    await t.test('a request that was on its way finds nobody', async (t) => {
      const world = await makeWaypointWorld(t, { protocol: 'http1' })
      const paths: string[] = []
      await world.addPod('v1', app(paths))
      set(world, deny)
      const tunnel = await world.tunnel()
      // Of the next request the waypoint has the first line: the connection is not idle.
      tunnel.write('GET /admin HTTP/1.1\r\nhost:')
      await until(() => [...world.waypoint.openCalls()].length === 1, 'the call')
      const had = buffer(tunnel)
      move(world, deny)
      tunnel.write(' catalog.shop\r\n\r\n')
      const answer = (await had).toString()
      t.match(answer, /^(HTTP\/1\.1 503 [^]*connection: close[^]*)?$/)
      t.strictSame(paths, [])
    })
    await t.test('a connection of another kind is cut', async (t) => {
      const world = await makeWaypointWorld(t)
      await world.addPod('v1', echo)
      const policy = waypointPolicy('p', 'deny', [], {
        targets: [{ kind: 'service', namespace: 'shop', name: 'catalog' }],
      })
      set(world, policy)
      const tunnel = await world.tunnel()
      tunnel.write('hello')
      await once(tunnel, 'data')
      move(world, policy)
      await closed(tunnel)
      t.match(world.ended[0]?.end, {
        end: 'policyChanged',
        message: 'what was called is bound to another waypoint now',
      })
      t.strictSame(world.audit, [])
    })
    await t.test('what is bound to none goes on', async (t) => {
      const world = await makeWaypointWorld(t, { protocol: 'http1' })
      await world.addPod('v1', app([]))
      const ask = asker(await world.tunnel())
      t.equal(await ask('GET /'), '200 served')
      const service = world.mesh.service(SHOP_KEY)
      if (service === undefined) throw new Error('there is no Service')
      world.apply({ kind: 'service', service: { ...service, waypoint: undefined } })
      t.equal(await ask('GET /'), '200 served')
    })
  },
)

void t.test('a policy judges what it is attached to, and nothing else', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http1' })
  await world.addPod('v1', app([]))
  const ask = asker(await world.tunnel())
  const deny = (targets: WaypointPolicy['targets']): void =>
    set(world, waypointPolicy('p', 'deny', [], { targets, rules: [{ clauses: [], place: 0 }] }))
  const denied = '403 RBAC: access denied'
  for (const [kind, namespace, name, told] of [
    ['waypoint', 'shop', 'way', denied],
    ['waypoint', 'shop', 'another', '200 served'],
    ['waypoint', 'other', 'way', '200 served'],
    ['service', 'shop', 'catalog', denied],
    ['service', 'shop', 'another', '200 served'],
    ['namespace', 'shop', '', denied],
    ['namespace', 'other', '', '200 served'],
    ['mesh', '', '', denied],
  ] as const) {
    deny([{ kind, namespace, name }])
    t.equal(await ask('GET /'), told, `${kind} ${namespace}/${name}`)
  }
})

void t.test('what cannot be read closes, as wide as it was or may be', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http1' })
  await world.addPod('v1', app([]))
  const ask = asker(await world.tunnel())
  const unreadable = (key: string): void =>
    world.apply({
      kind: 'waypointPolicyUnreadable',
      policy: { key: key as PolicyKey, reason: 'rules: too deep', targets: undefined },
    })
  const removed = (key: string): void =>
    world.apply({ kind: 'waypointPolicyRemoved', key: key as PolicyKey })
  for (const [key, told] of [
    ['shop/p', '403 RBAC: access denied'],
    ['other/p', '200 served'],
    ['istio-system/p', '403 RBAC: access denied'],
  ] as const) {
    unreadable(key)
    t.equal(await ask('GET /'), told, key)
    removed(key)
    t.equal(await ask('GET /'), '200 served', `${key} is gone`)
  }
  t.match(world.audit[0], {
    why: 'policy shop/p cannot be read: rules: too deep',
    object: 'AuthorizationPolicy shop/p',
  })
  const another = [{ kind: 'service', namespace: 'shop', name: 'another' }] as const
  set(world, waypointPolicy('p', 'deny', [], { targets: another }))
  unreadable('shop/p')
  t.equal(await ask('GET /'), '200 served', 'it was about another Service')
})

void t.test('what is on trial or for the record only is told, and denies nothing', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http1' })
  await world.addPod('v1', app([]))
  const match = { paths: [exact('/x')] }
  set(world, waypointPolicy('trial', 'deny', [match], { isDryRun: true }))
  set(world, waypointPolicy('watch', 'deny', [match], { isDryRun: true, isAudit: true }))
  const ask = asker(await world.tunnel())
  t.equal(await ask('GET /'), '200 served')
  t.strictSame(world.audit, [], 'there is nothing to tell')
  t.equal(await ask('GET /x'), '200 served')
  t.match(world.audit, [
    { kind: 'request.dryRun', why: 'would be denied by: shop/trial, rule 0' },
    { kind: 'request.audited', object: 'AuthorizationPolicy shop/watch', rule: 0 },
  ])
})

void t.test('a call that is no HTTP is judged by what is said of connections', async (t) => {
  const world = await makeWaypointWorld(t)
  const pod = await world.addPod('v1', echo)
  const port = { ...EMPTY_MATCH, destinationPorts: [80] }
  set(world, waypointPolicy('p', 'allow', [{ connection: port }]))
  const tunnel = await world.tunnel()
  tunnel.end('hello')
  t.equal((await buffer(tunnel)).toString(), 'hello')
  set(world, waypointPolicy('p', 'allow', [{ connection: port, methods: [exact('GET')] }]))
  const refused = await world.tunnel()
  refused.on('error', () => undefined)
  await closed(refused)
  t.ok(refused.wasReset, 'it is not closed as if it were over')
  await world.told.until(() => world.ended.length === 2)
  t.match(world.ended[1]?.end, { end: 'policyDenied', by: { policy: 'shop/p' } })
  t.match(world.audit, [
    {
      kind: 'connection.denied',
      what: 'Service shop/catalog at 10.96.0.50:80',
      object: 'AuthorizationPolicy shop/p',
    },
  ])
  t.equal(pod.tunnels.length, 1, 'the pod has not heard of it')
})

/** Opens TLS to such a name over a tunnel, to a pod that says nothing. */
async function openTls(world: World, servername: string): Promise<OpenedTunnel['tunnel']> {
  const tunnel = await world.tunnel()
  const client = connectTls({ socket: tunnel, servername })
  client.on('error', () => undefined)
  return tunnel
}

/** Takes whatever comes. */
function silent(incoming: IncomingTunnel): void {
  const tunnel = incoming.accept({})
  tunnel.on('error', () => undefined).resume()
}

for (const protocol of ['tls', 'tcp', 'unknown'] as const)
  void t.test(`whom a client asks for by TLS decides, at a port of ${protocol}`, async (t) => {
    const world = await makeWaypointWorld(t, { protocol })
    const pod = await world.addPod('v1', silent)
    /** Whether such a client gets to the pod. */
    const isLetIn = async (name: string): Promise<boolean> => {
      const [before, refused] = [pod.tunnels.length, world.ended.length]
      await openTls(world, name)
      await until(
        () => pod.tunnels.length > before || world.ended.length > refused,
        `a verdict on ${name}`,
      )
      return pod.tunnels.length > before
    }
    set(world, waypointPolicy('p', 'deny', [{ snis: [exact('Pay.example')] }]))
    t.equal(await isLetIn('cart.example'), true)
    t.equal(await isLetIn('pay.example'), false)
    t.equal(await isLetIn('PAY.example'), false, 'however it is written')
    t.match(world.audit, [
      { kind: 'connection.denied', object: 'AuthorizationPolicy shop/p', rule: 0 },
      {},
    ])
    set(world, waypointPolicy('p', 'allow', [{ snis: [{ kind: 'suffix', text: '.example' }] }]))
    t.equal(await isLetIn('cart.example'), true)
    t.equal(await isLetIn('cart.test'), false)

    const plain = await world.tunnel()
    plain.on('error', () => undefined)
    plain.end('hello')
    await closed(plain)
    t.ok(plain.wasReset, 'and who opens no TLS asks for nobody')
  })

void t.test(
  'a client that does not say whom it asks for gets past no DENY of a name',
  async (t) => {
    const world = await makeWaypointWorld(t, { protocol: 'tls' })
    await world.addPod('v1', silent)
    set(world, waypointPolicy('p', 'deny', [{ snis: [exact('pay.example')] }]))
    const half = await world.tunnel()
    half.on('error', () => undefined)
    half.end(Buffer.from([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]))
    await closed(half)
    t.ok(half.wasReset)
    t.match(world.audit, [{ why: /shop\/p \(whether its rule matches cannot be told\)/ }])
  },
)

void t.test('a change of policies cuts open TLS by its name', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'tls' })
  const pod = await world.addPod('v1', silent)
  const denied = (name: string) => waypointPolicy('p', 'deny', [{ snis: [exact(name)] }])
  set(world, denied('nobody.example'))
  const cart = await openTls(world, 'cart.example')
  await openTls(world, 'pay.example')
  await until(() => pod.tunnels.length === 2, 'both to be carried')
  set(world, denied('cart.example'))
  await closed(cart)
  await world.told.until(() => world.ended.length === 1)
  t.match(world.ended, [{ call: { serverName: 'cart.example' }, end: { end: 'policyChanged' } }])
})

void t.test(
  'a change of policies cuts open calls that are not allowed any more, and no others',
  async (t) => {
    const world = await makeWaypointWorld(t)
    await world.addPod('v1', echo)
    const mine = await world.tunnel()
    const other = await (await world.asAnother('other')).tunnel()
    for (const tunnel of [mine, other]) {
      tunnel.on('error', () => undefined)
      tunnel.write('x')
      await once(tunnel, 'data')
    }
    const client = { ...EMPTY_MATCH, principals: [exact('cluster.local/ns/shop/sa/client')] }
    set(world, waypointPolicy('p', 'deny', [{ connection: client }]))
    await closed(mine)
    t.ok(mine.wasReset)
    await world.told.until(() => world.ended.length === 1)
    t.match(world.ended[0]?.end, { end: 'policyChanged', by: { policy: 'shop/p', rule: 0 } })
    t.match(world.audit, [{ kind: 'connection.closed', who: testIdentity('client'), rule: 0 }])
    other.write('y')
    t.equal(String((await once(other, 'data'))[0]), 'y', 'the other goes on')
    other.end()
    await closed(other)
  },
)

void t.test(
  'a silent client may turn out to speak HTTP where nothing else is let in',
  async (t) => {
    const world = await makeWaypointWorld(t, { protocol: 'unknown' })
    const pod = await world.addPod('v1', app([]))
    set(world, waypointPolicy('p', 'allow', [{ methods: [exact('GET')] }]))
    const tunnel = await world.tunnel()
    // Longer than a waypoint waits for a client before it lets the server speak first: nothing that could be awaited happens then.
    await new Promise((resolve) => setTimeout(resolve, 200))
    t.equal(pod.tunnels.length, 0, 'nothing is opened for who may not be let in')
    const ask = asker(tunnel)
    t.equal(await ask('GET /'), '200 served')
    t.equal(await ask('PUT /'), '403 RBAC: access denied')
  },
)

void t.test(
  'a change of policies cuts WebSockets that are not allowed any more, and no others',
  async (t) => {
    const world = await makeWaypointWorld(t, { protocol: 'http1' })
    await world.addPod('v1', (incoming) => {
      const tunnel = incoming.accept({})
      tunnel.on('error', () => undefined)
      tunnel.once('data', () => {
        tunnel.write(
          'HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n',
        )
        tunnel.pipe(tunnel)
      })
    })
    const open = async (path: string): Promise<OpenedTunnel['tunnel']> => {
      const tunnel = await world.tunnel()
      tunnel.on('error', () => undefined)
      const lines = ['host: catalog', 'x-room: 1', 'upgrade: websocket', 'connection: upgrade']
      tunnel.write(`GET ${path} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`)
      t.match(String((await once(tunnel, 'data'))[0]), /^HTTP\/1\.1 101 /)
      return tunnel
    }
    const [admin, chat] = [await open('/admin/../admin'), await open('/chat?room=1')]
    set(world, waypointPolicy('p', 'deny', [{ paths: [exact('/admin')], methods: [exact('PUT')] }]))
    admin.write('hello')
    t.equal(String((await once(admin, 'data'))[0]), 'hello', 'another policy is none of its')
    set(world, waypointPolicy('p', 'deny', [{ paths: [exact('/admin')] }]))
    await closed(admin)
    t.ok(admin.wasReset)
    await world.told.until(() => world.requests.length === 1)
    t.match(world.requests, [
      { status: 101, flag: 'RBAC', message: 'explicitly denied by: shop/p', requestBytes: 5 },
    ])
    t.match(world.audit, [
      {
        kind: 'connection.closed',
        what: 'GET catalog/admin of Service shop/catalog at 10.96.0.50:80',
        object: 'AuthorizationPolicy shop/p',
        rule: 0,
        why: /policies have changed|policy.*: explicitly denied by: shop\/p/,
      },
    ])
    chat.write('still')
    t.equal(String((await once(chat, 'data'))[0]), 'still', 'the other goes on')
    chat.end()
    await closed(chat)
    t.equal(world.audit.length, 1)
  },
)
