// SPDX-License-Identifier: Apache-2.0
// When a request is sent once more, and when it has waited long enough.

import t from 'tap'
import type { ForwardOutcome } from '../../waypoint/exchange/types.ts'
import { FORWARD, GET, makeWorld, message, OK } from './harness.ts'

const POST = message(['POST / HTTP/1.1', 'Host: h', 'Content-Length: 5'], 'hello')
const BUSY = message(['HTTP/1.1 503 Service Unavailable', 'Content-Length: 0'])
const RETRY: ForwardOutcome = { ...FORWARD, retry: { attempts: 2, codes: [503], backoffMs: 0 } }
const NO_CONNECTION = { flag: 'UF', reason: 'connectFailed', message: 'refused' } as const

await t.test('a request that could not be sent is sent elsewhere, whatever it is', (t) => {
  const world = makeWorld({ failure: ({ number }) => (number < 2 ? NO_CONNECTION : undefined) })
  world.client.send(POST)
  t.equal(world.app().take(), POST)
  world.app().send(OK)
  t.equal(world.client.take(), OK)
  t.match(world.records, [{ status: 200, attempts: 3 }])
  t.end()
})

await t.test('and is answered when there is nowhere to send it', (t) => {
  const world = makeWorld({ failure: () => NO_CONNECTION })
  world.client.send(POST + GET)
  t.match(world.client.take(), /^HTTP\/1\.1 503 .*HTTP\/1\.1 503 /s)
  t.match(world.records, [
    { status: 503, flag: 'UF', attempts: 3, message: /^refused/ },
    { status: 503 },
  ])
  t.end()
})

await t.test('where no endpoint is fit it is answered at once, whatever its route says', (t) => {
  const failure = { flag: 'UH', reason: 'noHealthyUpstream', message: 'nobody is there' } as const
  const retry = { attempts: 5, codes: [503], backoffMs: 1_000 }
  const world = makeWorld({ failure: () => failure, route: () => ({ ...FORWARD, retry }) })
  world.client.send(POST)
  t.match(world.client.take(), /^HTTP\/1\.1 503 [^]*no healthy upstream$/)
  t.match(world.records, [{ status: 503, flag: 'UH', attempts: 1, message: 'nobody is there' }])
  t.equal(world.deadlines.size, 1, 'but that of the client, which may ask again')
  const later = makeWorld({
    failure: ({ number }) => (number === 0 ? undefined : failure),
    route: () => ({ ...FORWARD, retry: { ...retry, backoffMs: 0 } }),
  })
  later.client.send(GET)
  later.app().sink.broken('serverReset')
  t.match(later.records, [{ status: 503, flag: 'UH', attempts: 2 }], 'the last one has gone')
  t.end()
})

await t.test(
  'an idle connection that was dying is no reason to fail what may be sent twice',
  (t) => {
    const world = makeWorld()
    world.client.send(GET)
    world.app().send(OK)
    world.client.send(GET)
    world.app().sink.broken('serverReset')
    t.equal(world.apps.length, 2)
    t.equal(world.attempts.at(-1)?.mustBeFresh, true)
    t.equal(world.app().take(), GET)
    world.app().sink.broken('serverReset')
    t.match(world.client.take(), /HTTP\/1\.1 503 /, 'once')
    t.match(world.records, [{ status: 200 }, { status: 503, flag: 'UC', attempts: 1 }])
    t.end()
  },
)

await t.test('what may not be sent twice is not, unless its route says so', (t) => {
  const world = makeWorld()
  world.client.send(GET)
  world.app().send(OK)
  world.client.take()
  world.client.send(POST)
  world.app().sink.broken('serverReset')
  t.equal(world.apps.length, 1)
  t.match(world.client.take(), /^HTTP\/1\.1 503 /)
  const retried = makeWorld({ route: () => RETRY })
  retried.client.send(POST)
  retried.app().sink.broken('serverReset')
  t.equal(retried.apps.length, 2)
  t.equal(retried.app().take(), POST)
  t.end()
})

await t.test('who looks at the flags sees that no try was left, as of Envoy', (t) => {
  const flagOf = (fail: (world: ReturnType<typeof makeWorld>) => void, route = RETRY) => {
    const world = makeWorld({ route: () => route })
    world.client.send(GET)
    for (let tried = 0; tried < 3; tried += 1) fail(world)
    return world.records.map(({ flag, status }) => `${status} ${flag}`)
  }
  t.strictSame(
    flagOf((world) => world.app().send(BUSY)),
    ['503 URX'],
  )
  t.strictSame(
    flagOf((world) => world.app().sink.broken('serverReset')),
    ['503 URX,UC'],
  )
  t.strictSame(
    flagOf((world) => world.app().send('garbage\r\n\r\n')),
    ['502 URX,UPE'],
  )
  t.strictSame(
    flagOf((world) => world.pass(600), { ...RETRY, backendRequestMs: 500 }),
    ['504 URX,UT'],
  )
  t.strictSame(
    flagOf((world) => world.pass(600), { ...RETRY, requestMs: 500 }),
    ['504 UT'],
    'there was no time for them',
  )
  const nowhere = makeWorld({ route: () => RETRY, failure: () => NO_CONNECTION })
  nowhere.client.send(GET)
  t.match(nowhere.records, [{ status: 503, flag: 'URX,UF' }])
  const second = makeWorld({ route: () => RETRY })
  second.client.send(GET + GET)
  for (let tried = 0; tried < 3; tried += 1) second.app().send(BUSY)
  second.app().send(OK)
  t.match(second.records, [{ flag: 'URX' }, { status: 200, flag: '-' }], 'and no other request')
  t.end()
})

await t.test('answers of some statuses are not passed on while a try is left', (t) => {
  const world = makeWorld({ route: () => RETRY })
  world.client.send(POST)
  world.app().send(BUSY)
  world.app().send(BUSY)
  t.equal(world.client.take(), '')
  world.app().send(BUSY)
  t.equal(world.client.take(), BUSY, 'the last one is')
  t.match(world.records, [{ status: 503, flag: 'URX', attempts: 3 }])
  t.end()
})

await t.test('a body is sent again from its beginning, and goes on where it was', (t) => {
  const world = makeWorld({ route: () => RETRY })
  world.client.send(
    message(['POST / HTTP/1.1', 'Host: h', 'Transfer-Encoding: chunked'], '5\r\nhello\r\n'),
  )
  world.app().send(BUSY)
  t.match(world.app().take(), /\r\n\r\n5\r\nhello$/)
  world.client.send('5\r\nagain\r\n0\r\n\r\n')
  t.equal(world.app().take(), '\r\n5\r\nagain\r\n0\r\n\r\n')
  t.end()
})

await t.test('a body too long to be kept is sent once', (t) => {
  const world = makeWorld({ route: () => RETRY })
  const body = 'x'.repeat(70_000)
  world.client.send(message(['POST / HTTP/1.1', 'Host: h', 'Content-Length: 70000'], body))
  world.app().send(BUSY)
  t.equal(world.client.take(), BUSY)
  t.equal(world.apps.length, 1)
  t.end()
})

await t.test('nothing is tried again once the client has seen an answer', (t) => {
  const world = makeWorld({ route: () => RETRY })
  world.client.send(GET)
  world.app().send(message(['HTTP/1.1 200 OK', 'Content-Length: 5'], 'he'))
  world.app().sink.broken('serverReset')
  t.equal(world.apps.length, 1)
  t.equal(world.client.resetBy, 'serverReset')
  t.end()
})

await t.test('between tries it waits as long as the route says', (t) => {
  const world = makeWorld({
    route: () => ({ ...RETRY, retry: { attempts: 1, codes: [503], backoffMs: 200 } }),
  })
  world.client.send(GET)
  world.app().send(BUSY)
  world.pass(150)
  t.equal(world.apps.length, 1)
  world.pass(100)
  t.equal(world.apps.length, 2)
  t.end()
})

await t.test(
  'a request that takes too long is answered with 504, and its connection to the app is cut',
  (t) => {
    const world = makeWorld({ route: () => ({ ...FORWARD, requestMs: 1_000 }) })
    world.client.send(GET)
    world.pass(900)
    t.equal(world.client.take(), '')
    world.pass(200)
    t.match(world.client.take(), /^HTTP\/1\.1 504 /)
    t.equal(world.app().resetBy, 'connectTimeout')
    t.match(world.records, [{ status: 504, flag: 'UT' }])
    world.client.send(GET)
    world.app().send(message(['HTTP/1.1 200 OK', 'Content-Length: 5'], 'he'))
    world.pass(1_100)
    t.equal(world.client.resetBy, 'connectTimeout', 'an answer that has begun is cut')
    t.match(world.records, [{}, { status: 200, flag: 'UT' }])
    t.equal(world.deadlines.size, 0, 'no deadline is left')
    t.end()
  },
)

await t.test('each try has its time, and the whole has its own', (t) => {
  const world = makeWorld({ route: () => ({ ...RETRY, backendRequestMs: 300, requestMs: 800 }) })
  world.client.send(GET)
  world.pass(700)
  t.equal(world.apps.length, 3)
  t.equal(world.apps[0]?.resetBy, 'connectTimeout')
  world.pass(200)
  t.match(world.client.take(), /^HTTP\/1\.1 504 /)
  t.end()
})

await t.test('a connection that takes too long to come is called off', (t) => {
  const world = makeWorld({ isSlow: true, route: () => ({ ...FORWARD, requestMs: 500 }) })
  world.client.send(POST)
  t.equal(world.client.unconsumed, 5, 'the body waits, and no more of it is taken')
  world.pass(600)
  t.equal(world.calledOff, 1)
  t.match(world.client.take(), /^HTTP\/1\.1 504 /)
  t.equal(world.client.unconsumed, 0)
  t.end()
})

await t.test('the time of a try is that of its connection, too', (t) => {
  const world = makeWorld({ isSlow: true, route: () => ({ ...RETRY, backendRequestMs: 300 }) })
  world.client.send(POST)
  world.pass(350)
  t.equal(world.calledOff, 1)
  t.equal(world.attempts.length, 2, 'the next one')
  world.open()
  t.equal(world.app().take(), POST)
  world.pass(200)
  world.app().send(OK)
  t.equal(world.client.take(), OK, 'which has its own time')
  t.match(world.records, [{ status: 200, attempts: 2 }])
  const once = makeWorld({ isSlow: true, route: () => ({ ...FORWARD, backendRequestMs: 300 }) })
  once.client.send(GET)
  once.pass(350)
  t.match(once.client.take(), /^HTTP\/1\.1 504 /)
  t.match(once.records, [{ status: 504, flag: 'UT', attempts: 1 }])
  t.end()
})

await t.test('what came before the connection is sent when it is there', (t) => {
  const world = makeWorld({ isSlow: true })
  world.client.send(POST)
  world.open()
  t.equal(world.app().take(), POST)
  t.equal(world.client.unconsumed, 0)
  world.app().send(OK)
  t.equal(world.client.take(), OK)
  t.end()
})
