// SPDX-License-Identifier: Apache-2.0
// Requests and answers through a waypoint as an app and its client see them.

import t from 'tap'
import { headerEdits } from '../../mesh/http/header-edits.ts'
import { DENIED, FORWARD, GET, makeWorld, message, OK } from './harness.ts'

await t.test(
  'requests of one connection reach the app one after the other, over one connection',
  (t) => {
    const world = makeWorld()
    world.client.send(GET)
    t.equal(world.app().take(), GET, 'as the client wrote it')
    world.app().send(OK)
    t.equal(world.client.take(), OK, 'and the answer as the app wrote it')
    world.client.send(GET + GET)
    t.equal(world.apps.length, 1, 'the connection to the app is used again')
    t.equal(world.app().take(), GET, 'a request that was sent too early waits for its turn')
    world.app().send(OK)
    t.equal(world.client.take(), OK)
    t.equal(world.app().take(), GET)
    world.app().send(OK)
    t.equal(world.client.take(), OK)
    t.same(
      world.records.map(({ status, flag, target, responseBytes }) => ({
        status,
        flag,
        target,
        responseBytes,
      })),
      Array.from({ length: 3 }, () => ({
        status: 200,
        flag: '-',
        target: '/a?b=c',
        responseBytes: 2,
      })),
    )
    t.equal(world.client.unconsumed, 0, 'all credit is given back to the client')
    t.equal(world.app().unconsumed, 0, 'and to the app')
    t.equal(world.idle.length, 1)
    t.end()
  },
)

await t.test('a body goes through by its length, both ways, as it comes', (t) => {
  const world = makeWorld()
  world.client.send(message(['POST /p HTTP/1.1', 'Host: h', 'Content-Length: 10'], '01234'))
  t.match(world.app().take(), /\r\n\r\n01234$/)
  world.app().send(message(['HTTP/1.1 100 Continue']))
  t.equal(world.client.take(), message(['HTTP/1.1 100 Continue']))
  world.client.send('56789')
  t.equal(world.app().take(), '56789')
  world.app().send(message(['HTTP/1.1 201 Created', 'Content-Length: 4'], 'do'))
  t.match(world.client.take(), /201 Created\r\nContent-Length: 4\r\n\r\ndo$/)
  world.app().send('ne')
  t.equal(world.client.take(), 'ne')
  t.match(world.records, [{ status: 201, requestBytes: 10, responseBytes: 4, attempts: 1 }])
  t.end()
})

await t.test('chunks go through with what they carry; extensions stay here', (t) => {
  const world = makeWorld()
  world.client.send(
    message(
      ['POST /p HTTP/1.1', 'Host: h', 'Transfer-Encoding: chunked'],
      '5;a="b\\"c" ; d\r\nhello\r\n',
    ),
  )
  t.match(world.app().take(), /transfer-encoding: chunked\r\n\r\n5\r\nhello$/)
  world.client.send('0\r\nx-sum: 1\r\nhost: other\r\n\r\n')
  t.equal(world.app().take(), '\r\n0\r\nx-sum: 1\r\n\r\n', 'trailers, but for those that route')
  world
    .app()
    .send(
      message(['HTTP/1.1 200 OK', 'Transfer-Encoding: chunked'], '2\r\nhi\r\n0\r\nx: y\r\n\r\n'),
    )
  t.equal(
    world.client.take(),
    message(['HTTP/1.1 200 OK', 'transfer-encoding: chunked'], '2\r\nhi\r\n0\r\n\r\n'),
    'a client that did not ask for trailers gets none',
  )
  t.equal(world.idle.length, 1)
  t.end()
})

await t.test('trailers reach a client that asks for them, and nobody else hears its TE', (t) => {
  const world = makeWorld()
  world.client.send(
    message(['GET / HTTP/1.1', 'Host: h', 'TE: trailers, deflate', 'Connection: TE']),
  )
  t.equal(
    world.app().take(),
    message(['GET / HTTP/1.1', 'Host: h', 'te: trailers', 'connection: te']),
  )
  world
    .app()
    .send(message(['HTTP/1.1 200 OK', 'Transfer-Encoding: chunked'], '0\r\ngrpc-status: 0\r\n\r\n'))
  t.match(world.client.take(), /\r\n\r\n0\r\ngrpc-status: 0\r\n\r\n$/)
  t.end()
})

await t.test('answers without a body have none, whatever they claim', (t) => {
  const cases: readonly [request: string, answer: string[], expected: string[]][] = [
    ['HEAD', ['HTTP/1.1 200 OK', 'Content-Length: 9'], ['HTTP/1.1 200 OK', 'Content-Length: 9']],
    ['HEAD', ['HTTP/1.1 200 OK', 'Transfer-Encoding: chunked'], ['HTTP/1.1 200 OK']],
    ['GET', ['HTTP/1.1 204 No Content', 'Content-Length: 9'], ['HTTP/1.1 204 No Content']],
    [
      'GET',
      ['HTTP/1.1 304 Not Modified', 'Content-Length: 9'],
      ['HTTP/1.1 304 Not Modified', 'Content-Length: 9'],
    ],
  ]
  const world = makeWorld()
  for (const [method, answer, expected] of cases) {
    world.client.send(message([`${method} / HTTP/1.1`, 'Host: h']))
    world.app().send(message(answer))
    t.equal(world.client.take(), message(expected), `${method}: ${answer.join(', ')}`)
  }
  t.equal(world.apps.length, 1, 'and the connection goes on')
  t.end()
})

await t.test(
  'an answer that ends with its connection is chunked for the client, whose connection goes on',
  (t) => {
    const world = makeWorld()
    world.client.send(GET)
    world.app().send(message(['HTTP/1.1 200 OK', 'Connection: close'], 'abc'))
    world.app().send('d')
    world.app().sink.ended()
    t.equal(
      world.client.take(),
      message(['HTTP/1.1 200 OK', 'transfer-encoding: chunked'], '3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n'),
    )
    t.equal(world.idle.length, 0)
    world.client.send(GET)
    t.equal(world.apps.length, 2)
    t.end()
  },
)

await t.test(
  'HTTP/1.0 gets no chunks, no interim answers, and keeps its connection where it asks to',
  (t) => {
    const world = makeWorld()
    world.client.send(message(['GET / HTTP/1.0', 'Connection: keep-alive']))
    t.equal(
      world.app().take(),
      message(['GET / HTTP/1.1', 'host: catalog.shop.svc.cluster.local']),
      'the app is told the host of the service',
    )
    world.app().send(message(['HTTP/1.1 103 Early Hints']) + OK)
    t.equal(
      world.client.take(),
      message(['HTTP/1.1 200 OK', 'Content-Length: 2', 'connection: keep-alive'], 'hi'),
    )
    world.client.send(message(['GET / HTTP/1.0', 'Host: h']))
    world
      .app()
      .send(message(['HTTP/1.1 200 OK', 'Transfer-Encoding: chunked'], '2\r\nhi\r\n0\r\n\r\n'))
    t.equal(world.client.take(), message(['HTTP/1.1 200 OK', 'connection: close'], 'hi'))
    t.ok(world.client.hasEnded)
    t.end()
  },
)

await t.test(
  'fields of one hop go no further, nor do those that Connection names, unless they say who calls',
  (t) => {
    const world = makeWorld()
    world.client.send(
      message([
        'GET / HTTP/1.1',
        'Host: h',
        'Connection: keep-alive, x-private, X-Forwarded-For, content-length',
        'Keep-Alive: timeout=5',
        'X-Private: 1',
        'X-Forwarded-For: 10.1.1.1',
        'Proxy-Connection: keep-alive',
        // What a sidecar says of who calls: an app may believe it, so a client does not say it.
        'X-Forwarded-Client-Cert: URI=spiffe://cluster.local/ns/shop/sa/admin',
        'Upgrade: h2c',
        'Accept: */*',
      ]),
    )
    t.equal(
      world.app().take(),
      message(['GET / HTTP/1.1', 'Host: h', 'X-Forwarded-For: 10.1.1.1', 'Accept: */*']),
    )
    world
      .app()
      .send(
        message([
          'HTTP/1.1 200 OK',
          'Connection: x-hop',
          'X-Hop: 1',
          'Keep-Alive: timeout=5',
          'Content-Length: 0',
        ]),
      )
    t.equal(world.client.take(), message(['HTTP/1.1 200 OK', 'Content-Length: 0']))
    t.end()
  },
)

await t.test('a route edits headers, rewrites path and host', (t) => {
  const world = makeWorld({
    route: () => ({
      ...FORWARD,
      target: '/new?b=c',
      authority: 'other.example',
      requestEdits: headerEdits({ set: [{ name: 'X-Set', value: '1' }], remove: ['x-gone'] }),
      responseEdits: headerEdits({ add: [{ name: 'x-added', value: 'yes' }] }),
    }),
  })
  world.client.send(
    message(['GET /old?b=c HTTP/1.1', 'Host: h', 'x-set: 0', 'X-Gone: 1', 'x-stays: 2']),
  )
  t.equal(
    world.app().take(),
    message(['GET /new?b=c HTTP/1.1', 'host: other.example', 'x-stays: 2', 'x-set: 1']),
  )
  world.app().send(OK)
  t.equal(
    world.client.take(),
    message(['HTTP/1.1 200 OK', 'Content-Length: 2', 'x-added: yes'], 'hi'),
  )
  t.end()
})

await t.test('an absolute target is forwarded as the app expects it', (t) => {
  const world = makeWorld()
  world.client.send(message(['GET http://Cat.example:80?x HTTP/1.1', 'Host: cat.example:80']))
  t.equal(world.app().take(), message(['GET /?x HTTP/1.1', 'host: Cat.example:80']))
  t.same(world.heads, [{ method: 'GET', target: '/?x', authority: 'Cat.example:80' }])
  for (const [target, sent] of [
    ['http://h', '*'],
    ['http://h/', '/'],
    ['http://h?x', '/?x'],
  ] as const) {
    const whole = makeWorld()
    whole.client.send(message([`OPTIONS ${target} HTTP/1.1`, 'Host: h']))
    t.equal(whole.app().take(), message([`OPTIONS ${sent} HTTP/1.1`, 'Host: h']), target)
  }
  t.end()
})

await t.test('a request that policy refuses is answered here; the next one is served', (t) => {
  const world = makeWorld({ route: (head) => (head.target === '/no' ? DENIED : FORWARD) })
  const refused = message(['POST /no HTTP/1.1', 'Host: h', 'Content-Length: 5'], 'hel')
  world.client.send(refused)
  const answer = world.client.take()
  t.match(answer, /^HTTP\/1\.1 403 Forbidden\r\n/)
  t.match(answer, /x-why: policy\r\n.*content-length: 3\r\n\r\nno\n$/s)
  t.notMatch(answer, 'connection: close')
  world.client.send(`lo${GET}`)
  t.equal(world.apps.length, 1, 'the body that nobody wanted is skipped')
  t.equal(world.app().take(), GET)
  t.match(world.records, [{ status: 403, responseBytes: 3, flag: 'RBAC', endpoint: undefined }])
  t.equal(world.client.unconsumed, 0)
  t.end()
})

await t.test(
  'a client that waits for 100 before its body is not left to guess: its connection ends with a refusal',
  (t) => {
    const world = makeWorld({ route: () => DENIED })
    world.client.send(
      message(['POST / HTTP/1.1', 'Host: h', 'Content-Length: 5', 'Expect: 100-continue']),
    )
    t.match(world.client.take(), /403.*connection: close/s)
    t.ok(world.client.hasEnded)
    world.client.send('helloGET / HTTP/1.1\r\nHost: h\r\n\r\n')
    t.equal(world.heads.length, 1, 'what follows is not read')
    world.pass(6_000)
    t.equal(world.client.resetBy, 'ok', 'and is not waited for for ever')
    t.equal(world.closed, 1)
    t.equal(world.deadlines.size, 0)
    t.end()
  },
)

await t.test(
  'an app that answers early is not waited for, and its connection is not used again',
  (t) => {
    const world = makeWorld()
    world.client.send(message(['POST / HTTP/1.1', 'Host: h', 'Content-Length: 5'], 'he'))
    world.app().send(OK)
    t.equal(world.client.take(), OK)
    t.equal(world.app().resetBy, 'ok', 'what would follow might be read as a request')
    world.client.send(`llo${GET}`)
    t.equal(world.apps.length, 2)
    t.equal(world.app().take(), GET)
    t.end()
  },
)

await t.test('a long body that nobody wants any more ends the connection', (t) => {
  const world = makeWorld()
  world.client.send(
    message(['POST / HTTP/1.1', 'Host: h', 'Transfer-Encoding: chunked'], '2\r\nhe\r\n'),
  )
  world.app().send(OK)
  t.equal(world.client.take(), OK)
  for (let sent = 0; sent < 70; sent += 1) world.client.send(`400\r\n${'x'.repeat(1024)}\r\n`)
  t.ok(world.client.hasEnded)
  t.equal(world.client.unconsumed, 0)
  t.end()
})

await t.test('a WebSocket passes as bytes, with the ends of either side', (t) => {
  const world = makeWorld()
  world.client.send(
    message([
      'GET /ws HTTP/1.1',
      'Host: h',
      'Upgrade: WebSocket',
      'Connection: Upgrade',
      'Sec-WebSocket-Key: k',
    ]),
  )
  t.equal(
    world.app().take(),
    message([
      'GET /ws HTTP/1.1',
      'Host: h',
      'Sec-WebSocket-Key: k',
      'connection: upgrade',
      'upgrade: websocket',
    ]),
  )
  world
    .app()
    .send(
      `${message(['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade'])}frame`,
    )
  t.equal(
    world.client.take(),
    `${message(['HTTP/1.1 101 Switching Protocols', 'connection: upgrade', 'upgrade: websocket'])}frame`,
  )
  world.client.send('\0\x81GET / HTTP/1.1\r\n\r\n')
  t.equal(world.app().take(), '\0\x81GET / HTTP/1.1\r\n\r\n')
  world.app().sink.ended()
  t.ok(world.client.hasEnded)
  t.equal(world.records.length, 0, 'the other direction goes on')
  world.client.send('bye')
  world.client.sink.ended()
  t.equal(world.app().take(), 'bye')
  t.ok(world.app().hasEnded)
  t.match(world.records, [{ status: 101, flag: '-', requestBytes: 23, responseBytes: 5 }])
  t.equal(world.closed, 1)
  t.end()
})

await t.test('a switch that nobody asked for is an error of the app', (t) => {
  const world = makeWorld()
  world.client.send(GET)
  world
    .app()
    .send(
      message(['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade']),
    )
  t.match(world.client.take(), /^HTTP\/1\.1 502 /)
  t.match(world.records, [{ status: 502, flag: 'UPE' }])
  t.end()
})

await t.test('a client that is gone takes its request with it', (t) => {
  for (const leave of ['ended', 'broken'] as const) {
    const world = makeWorld()
    world.client.send(GET)
    if (leave === 'ended') world.client.sink.ended()
    else world.client.sink.broken('clientReset')
    t.equal(world.app().resetBy, 'clientReset', leave)
    t.match(world.records, [{ status: 0, flag: 'DC' }])
    t.equal(world.closed, 1)
    t.equal(world.deadlines.size, 0)
  }
  const waiting = makeWorld({ isSlow: true })
  waiting.client.send(GET)
  waiting.client.sink.broken('clientReset')
  t.equal(waiting.calledOff, 1, 'a connection that is not there yet is called off')
  t.end()
})

await t.test('who says that this is the last request may half-close, and is answered', (t) => {
  const world = makeWorld()
  world.client.send(message(['GET / HTTP/1.1', 'Host: h', 'Connection: close']))
  world.client.sink.ended()
  world.app().send(OK)
  t.equal(
    world.client.take(),
    message(['HTTP/1.1 200 OK', 'Content-Length: 2', 'connection: close'], 'hi'),
  )
  t.ok(world.client.hasEnded)
  t.equal(world.closed, 1)
  t.end()
})

await t.test('an app that is gone before its answer: 503, and the client goes on', (t) => {
  const world = makeWorld()
  world.client.send(GET)
  world.app().sink.broken('serverReset')
  t.match(world.client.take(), /^HTTP\/1\.1 503 Service Unavailable\r\n/)
  t.match(world.records, [{ status: 503, flag: 'UC', message: 'serverReset' }])
  world.client.send(GET)
  t.equal(world.apps.length, 2)
  t.end()
})

await t.test('an answer that is cut short is never passed off as whole', (t) => {
  for (const begin of [
    message(['HTTP/1.1 200 OK', 'Content-Length: 5'], 'he'),
    message(['HTTP/1.1 200 OK', 'Transfer-Encoding: chunked'], '5\r\nhe'),
  ]) {
    const world = makeWorld()
    world.client.send(GET)
    world.app().send(begin)
    world.app().sink.ended()
    t.equal(world.client.resetBy, 'serverReset')
    t.notMatch(world.client.take(), /\r\n0\r\n\r\n$/)
    t.match(world.records, [{ status: 200, flag: 'UC' }])
    t.equal(world.closed, 1)
  }
  t.end()
})

await t.test('an app that sends what nobody asked for is cut off, and nobody gets it', (t) => {
  const idle = makeWorld()
  idle.client.send(GET)
  idle.app().send(OK)
  idle.client.take()
  idle.app().send(OK)
  t.equal(idle.idle.length, 0)
  t.equal(idle.app().resetBy, 'serverReset')
  const behind = makeWorld()
  behind.client.send(GET)
  behind.app().send(OK + OK)
  t.equal(behind.client.take(), OK)
  t.equal(behind.idle.length, 0)
  t.end()
})

await t.test('who is slow is waited for, and nothing piles up between', (t) => {
  const world = makeWorld()
  world.client.send(message(['POST / HTTP/1.1', 'Host: h', 'Content-Length: 100000']))
  world.app().hasRoom = false
  world.client.send('x'.repeat(50_000))
  t.equal(world.client.unconsumed, 50_000, 'the client is not let send more than the app takes')
  world.app().drain()
  t.equal(world.client.unconsumed, 0)
  world.client.send('x'.repeat(50_000))
  world.client.hasRoom = false
  world.app().send(message(['HTTP/1.1 200 OK', 'Content-Length: 100000'], 'y'.repeat(60_000)))
  t.equal(world.app().unconsumed, 60_000)
  world.client.drain()
  t.equal(world.app().unconsumed, 0)
  world.client.hasRoom = false
  world.app().send('y'.repeat(40_000))
  t.equal(world.idle.length, 1, 'an app that is done does not wait for a slow client')
  t.equal(world.app().unconsumed, 0)
  world.client.send(GET)
  t.equal(world.heads.length, 1, 'but its next request does')
  world.client.drain()
  t.equal(world.heads.length, 2)
  t.end()
})

await t.test(
  'an app that never comes to its answer is not let fill the memory of a client that does not read',
  (t) => {
    const world = makeWorld()
    world.client.hasRoom = false
    world.client.send(GET)
    world.app().send(message(['HTTP/1.1 103 Early Hints', 'Link: </a>']).repeat(100))
    t.match(world.records, [{ status: 502, flag: 'UPE' }])
    t.equal(world.app().resetBy, 'serverReset')
    t.equal(world.client.take().match(/ 103 /g)?.length, 64)
    t.end()
  },
)

await t.test('what a route makes of path or host is never more than that', (t) => {
  for (const broken of [
    { target: '/a HTTP/1.1\r\nx: y' },
    { authority: 'h\r\nx: y' },
    { target: '' },
  ]) {
    const world = makeWorld({ route: () => ({ ...FORWARD, ...broken }) })
    world.client.send(GET)
    t.match(world.client.take(), /^HTTP\/1\.1 500 /)
    t.equal(world.apps.length, 0)
  }
  t.end()
})

await t.test('a drained connection ends after the answer that is under way', (t) => {
  const world = makeWorld()
  world.client.send(GET)
  world.served.drain()
  world.app().send(OK)
  t.match(world.client.take(), /connection: close\r\n\r\nhi$/, 'which the answer says')
  t.ok(world.client.hasEnded)
  const idle = makeWorld()
  idle.served.drain()
  t.ok(idle.client.hasEnded)
  t.end()
})

await t.test(
  'a head that does not come to its end is not waited for for ever, however it trickles',
  (t) => {
    const world = makeWorld()
    world.client.send('GET / HTTP/1.1\r\n')
    for (let sent = 0; sent < 50; sent += 1) {
      world.pass(1_000)
      world.client.send('a')
    }
    t.notOk(world.client.hasEnded)
    world.pass(11_000)
    t.ok(world.client.hasEnded)
    world.pass(6_000)
    t.equal(world.closed, 1)
    t.end()
  },
)

await t.test("a page in a browser may read the waypoint's word that its app is gone", (t) => {
  const added = [
    { name: 'access-control-allow-origin', value: 'https://shop.example' },
    { name: 'x-version', value: '2' },
  ]
  const responseEdits = headerEdits({ set: added })
  const world = makeWorld({ route: () => ({ ...FORWARD, responseEdits, requestMs: 1_000 }) })
  const faults: readonly (readonly [status: number, happens: () => void])[] = [
    [503, () => world.app().sink.broken('serverReset')],
    [504, () => world.pass(1_100)],
    [502, () => world.app().send('garbage\r\n\r\n')],
  ]
  for (const [status, happens] of faults) {
    world.client.send(GET)
    happens()
    const told = world.client.take()
    t.match(told, `HTTP/1.1 ${status} `)
    for (const { name, value } of added) t.match(told, `\r\n${name}: ${value}\r\n`)
  }
  t.end()
})

await t.test('a head that has stopped is not waited for, and who sent it hears so', (t) => {
  const world = makeWorld()
  world.client.send(`GET /slow HTTP/1.1\r\nHost: h\r\nx: `)
  const other = makeWorld()
  other.client.send(GET)
  world.pass(59_000)
  world.client.send('y')
  t.equal(world.client.take(), '')
  world.pass(1_100)
  t.match(world.client.take(), /^HTTP\/1\.1 408 Request Timeout\r\n[^]*connection: close/)
  t.ok(world.client.hasEnded)
  t.equal(world.client.unconsumed, 0)
  t.match(world.records, [{ status: 408, flag: 'DPE', method: 'GET', target: '/slow' }])
  const silent = makeWorld()
  silent.client.send(GET)
  silent.app().send(OK)
  silent.client.take()
  silent.pass(3_601_000)
  t.equal(silent.client.take(), '', 'who has begun nothing is just closed')
  t.ok(silent.client.hasEnded)
  t.end()
})

await t.test('a body that has stopped is not waited for for ever', (t) => {
  const MINUTE = 60_000
  const begin = message(['POST / HTTP/1.1', 'Host: h', 'Content-Length: 100'], 'he')
  const stopped = makeWorld()
  stopped.client.send(begin)
  stopped.pass(4 * MINUTE)
  stopped.client.send('l')
  stopped.pass(5 * MINUTE)
  t.equal(stopped.records.length, 0, 'slow is not stopped')
  stopped.pass(6 * MINUTE)
  t.match(stopped.client.take(), /^HTTP\/1\.1 408 [^]*connection: close\r\n/)
  t.ok(stopped.client.hasEnded)
  t.equal(stopped.app().resetBy, 'clientReset', 'the app takes nothing for whole')
  t.match(stopped.records, [{ status: 408, flag: 'DPE', requestBytes: 3 }])
  stopped.pass(MINUTE)
  t.equal(stopped.deadlines.size, 0)

  const slowApp = makeWorld()
  slowApp.client.send(message(['POST / HTTP/1.1', 'Host: h', 'Transfer-Encoding: chunked']))
  slowApp.app().hasRoom = false
  slowApp.client.send('2\r\nhe\r\n')
  slowApp.pass(30 * MINUTE)
  t.equal(slowApp.records.length, 0, 'it is the app that takes nothing')
  slowApp.app().drain()
  slowApp.pass(11 * MINUTE)
  t.match(slowApp.records, [{ status: 408 }])

  const answered = makeWorld()
  answered.client.send(begin)
  answered.app().send(message(['HTTP/1.1 200 OK', 'Transfer-Encoding: chunked'], '2\r\nhi\r\n'))
  answered.pass(30 * MINUTE)
  t.equal(answered.records.length, 0, 'who talks meanwhile is not cut off')

  const whole = makeWorld()
  whole.client.send(begin)
  whole.client.send('x'.repeat(98))
  whole.pass(30 * MINUTE)
  t.equal(whole.records.length, 0, 'of the app a route says how long it may take')
  t.equal(whole.deadlines.size, 0)
  t.end()
})
