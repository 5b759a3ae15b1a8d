// SPDX-License-Identifier: Apache-2.0
// Copies of requests: a backend that gets them, however slow or broken, is nothing that the request's own client could notice.

import t from 'tap'
import type { Attempt, ForwardOutcome } from '../../waypoint/exchange/types.ts'
import { type FarEnd, FORWARD, GET, makeWorld, message, OK, type World } from './harness.ts'

const SHADOW = { kind: 'service', service: 'shop/shadow.shop.svc.cluster.local', port: 80 } as const
const MIRRORED: ForwardOutcome = { ...FORWARD, mirrors: [SHADOW] }
const NO_CONNECTION = { flag: 'UF', reason: 'connectFailed', message: 'refused' } as const
/** More than is kept of a body for a mirror that does not take it. */
const TOO_MUCH = 'x'.repeat(70_000)

const isCopy = ({ forward }: Attempt): boolean => forward.backend === SHADOW

/** The copy is sent before its request, so that its connection is the older one. */
function ends(world: World): { readonly copy: FarEnd; readonly app: FarEnd } {
  const [copy, app] = world.apps
  if (copy === undefined || app === undefined) throw new Error('there is no copy')
  return { copy, app }
}

void t.test('a copy goes to the mirror, marked, and its answer to nobody', (t) => {
  const world = makeWorld({ route: () => MIRRORED })
  world.client.send(GET)
  const { copy, app } = ends(world)
  t.match(copy.take(), /^GET \/a\?b=c HTTP\/1\.1\r\nHost: catalog-shadow\r\n\r\n$/i)
  t.equal(app.take(), GET, 'the request itself is as ever')
  copy.send(message(['HTTP/1.1 500 Oh', 'Content-Length: 2'], 'no'))
  t.equal(world.client.take(), '')
  app.send(OK)
  t.equal(world.client.take(), OK)
  t.match(world.records, [{ status: 200, attempts: 1 }], 'one request was made')
  t.match(world.mirrored, [{ result: 'answered' }])
  t.equal(copy.unconsumed, 0)
  t.end()
})

void t.test('the mark stands before the port, and no address gets one', (t) => {
  for (const [host, copied] of [
    ['catalog.shop:8080', 'catalog.shop-shadow:8080'],
    ['10.96.0.7:8080', '10.96.0.7:8080'],
    ['[fd00::7]:8080', '[fd00::7]:8080'],
  ] as const) {
    const world = makeWorld({ route: () => MIRRORED })
    world.client.send(message(['GET / HTTP/1.1', `Host: ${host}`]))
    t.match(ends(world).copy.take().toLowerCase(), new RegExp(`host: ${RegExp.escape(copied)}\r`))
  }
  t.end()
})

void t.test('a body goes to both as it comes, with its chunks and trailers', (t) => {
  const world = makeWorld({ route: () => MIRRORED })
  const head = ['POST /p HTTP/1.1', 'Host: h', 'Transfer-Encoding: chunked']
  world.client.send(message(head, '5\r\nhello\r\n'))
  const { copy, app } = ends(world)
  t.match(copy.take(), /\r\n\r\n5\r\nhello$/)
  world.client.send('0\r\nx-sum: 1\r\n\r\n')
  t.equal(copy.take(), '\r\n0\r\nx-sum: 1\r\n\r\n')
  app.send(OK)
  t.equal(world.client.take(), OK, 'the client does not wait for the mirror')
  t.same(world.mirrored, [], 'which is answered in its own time')
  copy.send(OK)
  t.match(world.mirrored, [{ result: 'answered' }])
  t.end()
})

void t.test('a mirror that cannot be had, or breaks, fails nothing', (t) => {
  const dead = makeWorld({
    route: () => MIRRORED,
    failure: (attempt) => (isCopy(attempt) ? NO_CONNECTION : undefined),
  })
  dead.client.send(GET)
  dead.app().send(OK)
  t.equal(dead.client.take(), OK)
  t.match(dead.mirrored, [{ result: 'failed', flag: 'UF' }])

  const broken = makeWorld({ route: () => MIRRORED })
  broken.client.send(GET)
  const { copy, app } = ends(broken)
  copy.sink.broken('serverReset')
  app.send(OK)
  t.equal(broken.client.take(), OK)
  t.match(broken.mirrored, [{ result: 'failed', flag: 'UC' }])
  t.end()
})

void t.test(
  'given a mirror that takes nothing, the request goes on at the speed of its own',
  (t) => {
    const world = makeWorld({ route: () => MIRRORED })
    world.client.send(message(['POST / HTTP/1.1', 'Host: h', `Content-Length: ${TOO_MUCH.length}`]))
    const { copy, app } = ends(world)
    copy.hasRoom = false
    world.client.send(TOO_MUCH.slice(0, 40_000))
    t.equal(world.client.unconsumed, 0, 'the client may go on')
    t.same(world.mirrored, [], 'as much waits for the mirror')
    world.client.send(TOO_MUCH.slice(40_000))
    t.match(world.mirrored, [{ result: 'dropped' }], 'and more does not')
    t.ok(copy.resetBy, 'so that it takes no part for the whole')
    t.match(app.take(), /x{70000}$/)
    app.send(OK)
    t.equal(world.client.take(), OK)
    t.end()
  },
)

void t.test('what the mirror takes late does not count against it', (t) => {
  const world = makeWorld({ route: () => MIRRORED })
  world.client.send(message(['POST / HTTP/1.1', 'Host: h', `Content-Length: ${TOO_MUCH.length}`]))
  const { copy } = ends(world)
  copy.hasRoom = false
  world.client.send(TOO_MUCH.slice(0, 40_000))
  copy.drain()
  world.client.send(TOO_MUCH.slice(40_000))
  t.match(copy.take(), /x{70000}$/)
  copy.send(OK)
  t.match(world.mirrored, [{ result: 'answered' }])
  t.end()
})

void t.test('a request that ends before its body was read leaves no half copy', (t) => {
  const world = makeWorld({ route: () => MIRRORED })
  world.client.send(message(['POST / HTTP/1.1', 'Host: h', 'Content-Length: 9'], 'part'))
  const { copy } = ends(world)
  world.client.sink.broken('clientReset')
  t.ok(copy.resetBy)
  t.match(world.mirrored, [{ result: 'dropped' }])
  t.end()
})

void t.test('a mirror that never answers is not waited for without end', (t) => {
  const world = makeWorld({ route: () => MIRRORED })
  world.client.send(GET)
  const { copy, app } = ends(world)
  app.send(OK)
  world.pass(31_000)
  t.ok(copy.resetBy)
  t.match(world.mirrored, [{ result: 'dropped' }])
  t.end()
})

void t.test('copies of one client that hang take no more than its share', (t) => {
  const world = makeWorld({ route: () => MIRRORED })
  for (let count = 0; count < 130; count += 1) {
    world.client.send(GET)
    world.app().send(OK)
  }
  t.match(world.mirrored, [{ result: 'dropped' }, { result: 'dropped' }])
  t.equal(world.mirrored.length, 2)
  t.equal(world.records.filter(({ status }) => status === 200).length, 130)
  t.end()
})

void t.test('a conversation has no copy', (t) => {
  const world = makeWorld({ route: () => MIRRORED })
  const upgrade = ['GET / HTTP/1.1', 'Host: h', 'Upgrade: websocket', 'Connection: upgrade']
  world.client.send(message(upgrade))
  t.equal(world.apps.length, 1)
  t.notOk(world.attempts.some(isCopy))
  t.end()
})
