// SPDX-License-Identifier: Apache-2.0
// Which heads are understood, and which are refused because somebody else might understand them otherwise. After the cases that
// parsers are attacked with, and the examples of RFC 9112.

import t from 'tap'
import { HEADER, headerName } from '../../mesh/http/header-names.ts'
import { CHUNKED, UNTIL_CLOSE } from '../../mesh/http/http1/body-length.ts'
import { BAD, INCOMPLETE } from '../../mesh/http/http1/problem.ts'
import { Http1RequestHead } from '../../mesh/http/http1/request-head.ts'
import { Http1ResponseHead } from '../../mesh/http/http1/response-head.ts'

const GOOD_REQUESTS: Readonly<Record<string, string>> = {
  'the example of RFC 9112 3.2.1': 'GET /where?q=now HTTP/1.1\r\nHost: www.example.org\r\n\r\n',
  'any token as a method': "M-SEARCH!#$%&'*+-.^_`|~ / HTTP/1.1\r\nHost: h\r\n\r\n",
  'OPTIONS of the whole server': 'OPTIONS * HTTP/1.1\r\nHost: www.example.org:8001\r\n\r\n',
  'an IPv6 host': 'GET / HTTP/1.1\r\nHost: [fd00::1]:80\r\n\r\n',
  'obs-text in target and value': 'GET /\xe9 HTTP/1.1\r\nHost: h\r\nx: \xff\xfe\r\n\r\n',
  'blanks around a value, an empty value': 'GET / HTTP/1.1\r\nHost:\t h \t\r\nx:\r\ny: \r\n\r\n',
  'HTTP/1.0 without Host': 'GET / HTTP/1.0\r\n\r\n',
  'coding in any case': 'POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n',
  'leading zeros of a length': 'POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0005\r\n\r\n',
  'empty elements in Connection': 'GET / HTTP/1.1\r\nHost: h\r\nConnection: , close,\r\n\r\n',
}

const HOST = 'Host: h\r\n'
const BAD_REQUESTS: Readonly<Record<string, readonly [head: string, status: number]>> = {
  'no version': ['GET /\r\n\r\n', 400],
  'HTTP/2 in words': [`GET / HTTP/2.0\r\n${HOST}\r\n`, 505],
  'HTTP/1.2': [`GET / HTTP/1.2\r\n${HOST}\r\n`, 505],
  'another protocol': [`GET / ICE/1.0\r\n${HOST}\r\n`, 400],
  'version in lower case': [`GET / http/1.1\r\n${HOST}\r\n`, 400],
  'two blanks before the target': [`GET  / HTTP/1.1\r\n${HOST}\r\n`, 400],
  'a blank before the method': [` GET / HTTP/1.1\r\n${HOST}\r\n`, 400],
  'a tab after the method': [`GET\t/ HTTP/1.1\r\n${HOST}\r\n`, 400],
  'a blank in the target': [`GET /a b HTTP/1.1\r\n${HOST}\r\n`, 400],
  'a blank after the version': [`GET / HTTP/1.1 \r\n${HOST}\r\n`, 400],
  'a fragment': [`GET /a#b HTTP/1.1\r\n${HOST}\r\n`, 400],
  'NUL in the target': [`GET /\0 HTTP/1.1\r\n${HOST}\r\n`, 400],
  'a bare LF after the request line': [`GET / HTTP/1.1\n${HOST}\r\n`, 400],
  'a bare LF after a field': ['GET / HTTP/1.1\r\nHost: h\n\r\n', 400],
  'a bare LF at the end': [`GET / HTTP/1.1\r\n${HOST}\nx: y\r\n\r\n`, 400],
  'a bare CR in a value': ['GET / HTTP/1.1\r\nHost: h\r\nx: a\rb\r\n\r\n', 400],
  'NUL in a value': ['GET / HTTP/1.1\r\nHost: h\r\nx: a\0b\r\n\r\n', 400],
  'DEL in a value': ['GET / HTTP/1.1\r\nHost: h\r\nx: a\x7fb\r\n\r\n', 400],
  'a blank before the colon': ['GET / HTTP/1.1\r\nHost : h\r\n\r\n', 400],
  'a folded line': ['GET / HTTP/1.1\r\nHost: h\r\nx: a\r\n b\r\n\r\n', 400],
  'a folded first line': ['GET / HTTP/1.1\r\n x: a\r\nHost: h\r\n\r\n', 400],
  'a field without a name': ['GET / HTTP/1.1\r\nHost: h\r\n: a\r\n\r\n', 400],
  'a line without a colon': ['GET / HTTP/1.1\r\nHost: h\r\nabc\r\n\r\n', 400],
  'a name that is no token': ['GET / HTTP/1.1\r\nHost: h\r\nx(y): a\r\n\r\n', 400],
  'obs-text in a name': ['GET / HTTP/1.1\r\nHost: h\r\nx\xe9: a\r\n\r\n', 400],
  'no Host': ['GET / HTTP/1.1\r\n\r\n', 400],
  'an empty Host': ['GET / HTTP/1.1\r\nHost:\r\n\r\n', 400],
  'two Hosts': ['GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n', 400],
  'two Hosts in HTTP/1.0': ['GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n', 400],
  'a user in Host': ['GET / HTTP/1.1\r\nHost: a@h\r\n\r\n', 400],
  'a path in Host': ['GET / HTTP/1.1\r\nHost: h/x\r\n\r\n', 400],
  'a list of Hosts': ['GET / HTTP/1.1\r\nHost: h, i\r\n\r\n', 400],
  'a blank in Host': ['GET / HTTP/1.1\r\nHost: h i\r\n\r\n', 400],
  'a port that is none': ['GET / HTTP/1.1\r\nHost: h:80x\r\n\r\n', 400],
  'an absolute target with another host': [`GET http://i/ HTTP/1.1\r\n${HOST}\r\n`, 400],
  'an absolute target with the port of another scheme': [
    `GET http://h:443/ HTTP/1.1\r\n${HOST}\r\n`,
    400,
  ],
  'an absolute target with a user': [`GET http://a@h/ HTTP/1.1\r\n${HOST}\r\n`, 400],
  'an absolute target of another scheme': [`GET ftp://h/ HTTP/1.1\r\n${HOST}\r\n`, 400],
  'a target without a slash': [`GET index.html HTTP/1.1\r\n${HOST}\r\n`, 400],
  'an asterisk for GET': [`GET * HTTP/1.1\r\n${HOST}\r\n`, 400],
  CONNECT: ['CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n', 405],
  'length and coding': [
    `POST / HTTP/1.1\r\n${HOST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n`,
    400,
  ],
  'coding and length': [
    `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n`,
    400,
  ],
  'two lengths': [`POST / HTTP/1.1\r\n${HOST}Content-Length: 5\r\nContent-Length: 6\r\n\r\n`, 400],
  'the same length twice': [
    `POST / HTTP/1.1\r\n${HOST}Content-Length: 5\r\nContent-Length: 5\r\n\r\n`,
    400,
  ],
  'a list of lengths': [`POST / HTTP/1.1\r\n${HOST}Content-Length: 5, 5\r\n\r\n`, 400],
  'a signed length': [`POST / HTTP/1.1\r\n${HOST}Content-Length: +5\r\n\r\n`, 400],
  'a length below nothing': [`POST / HTTP/1.1\r\n${HOST}Content-Length: -1\r\n\r\n`, 400],
  'a hexadecimal length': [`POST / HTTP/1.1\r\n${HOST}Content-Length: 0x5\r\n\r\n`, 400],
  'an empty length': [`POST / HTTP/1.1\r\n${HOST}Content-Length:\r\n\r\n`, 400],
  'a length beyond all numbers': [
    `POST / HTTP/1.1\r\n${HOST}Content-Length: 99999999999999999999\r\n\r\n`,
    400,
  ],
  'chunked twice': [`POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked, chunked\r\n\r\n`, 400],
  'chunked in two lines': [
    `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n`,
    400,
  ],
  'chunked before another coding': [
    `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked, gzip\r\n\r\n`,
    400,
  ],
  'identity alone': [`POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: identity\r\n\r\n`, 400],
  'an empty coding': [`POST / HTTP/1.1\r\n${HOST}Transfer-Encoding:\r\n\r\n`, 400],
  'a coding that looks like chunked': [
    `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: xchunked\r\n\r\n`,
    400,
  ],
  'a quoted coding': [`POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: "chunked"\r\n\r\n`, 400],
  'another coding below chunked': [
    `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: gzip, chunked\r\n\r\n`,
    501,
  ],
  'coding in HTTP/1.0': [`POST / HTTP/1.0\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n`, 400],
  'an unknown expectation': [
    `POST / HTTP/1.1\r\n${HOST}Expect: 200-ok\r\nContent-Length: 1\r\n\r\n`,
    417,
  ],
  'Connection that is no list': [`GET / HTTP/1.1\r\n${HOST}Connection: a b\r\n\r\n`, 400],
  'a long target': [`GET /${'a'.repeat(17_000)} HTTP/1.1\r\n${HOST}\r\n`, 414],
  'a large head': [`GET / HTTP/1.1\r\n${HOST}x: ${'a'.repeat(70_000)}\r\n\r\n`, 431],
  'many fields': [`GET / HTTP/1.1\r\n${HOST}${'x: y\r\n'.repeat(200)}\r\n`, 431],
}

function bytes(text: string): Buffer {
  return Buffer.from(text, 'latin1')
}

await t.test('heads that mean one thing are understood', (t) => {
  const head = new Http1RequestHead()
  for (const [name, text] of Object.entries(GOOD_REQUESTS)) {
    t.equal(head.parse(bytes(text), 0, text.length), text.length, name)
    for (let length = 0; length < text.length; length += 1)
      if (head.parse(bytes(text), 0, length) !== INCOMPLETE)
        t.fail(`${name}, after ${length} bytes`)
  }
  t.end()
})

await t.test('heads that might mean two things are refused', (t) => {
  const head = new Http1RequestHead()
  for (const [name, [text, status]] of Object.entries(BAD_REQUESTS)) {
    t.equal(head.parse(bytes(text), 0, text.length), BAD, name)
    t.equal(head.problem?.status, status, name)
  }
  t.end()
})

await t.test('fields are found by name, in any case, once or more', (t) => {
  const head = new Http1RequestHead()
  const late = headerName('x-before')
  const text =
    'GET / HTTP/1.1\r\nHost: h\r\nX-Before: 1\r\nX-After: 2\r\nCookie: a=1\r\nx-before: 3\r\ncookie: b\r\n\r\n'
  head.parse(bytes(text), 0, text.length)
  const after = headerName('x-after')
  t.equal(head.value(late), '1')
  t.equal(head.joined(late), '1,3', 'a comma and no blank, as Envoy joins them')
  t.equal(head.value(after), '2', 'a name that was made after the head was read')
  t.equal(head.joined(after), '2')
  t.equal(head.joined(HEADER.cookie), 'a=1; b')
  t.equal(head.value(HEADER.authorization), undefined)
  const seen: string[] = []
  head.each((name, value) => void seen.push(`${name}=${value}`))
  t.same(seen, ['host=h', 'x-before=1', 'x-after=2', 'cookie=a=1', 'x-before=3', 'cookie=b'])
  const next = 'GET / HTTP/1.1\r\nHost: h\r\n\r\n'
  head.parse(bytes(next), 0, next.length)
  t.equal(head.value(late), undefined, 'nothing is left for the next head')
  t.end()
})

await t.test('WebSockets are asked for in one way only', (t) => {
  const head = new Http1RequestHead()
  const asks = (method: string, ...lines: string[]): boolean => {
    const text = `${method} / HTTP/1.1\r\nHost: h\r\n${lines.join('\r\n')}\r\n\r\n`
    t.equal(head.parse(bytes(text), 0, text.length), text.length)
    return head.isWebSocket
  }
  t.ok(asks('GET', 'Upgrade: websocket', 'Connection: keep-alive, Upgrade'))
  t.notOk(asks('GET', 'Upgrade: websocket'), 'not without Connection')
  t.notOk(asks('POST', 'Upgrade: websocket', 'Connection: upgrade'))
  t.notOk(asks('GET', 'Upgrade: websocket', 'Connection: upgrade', 'Content-Length: 3'))
  t.notOk(asks('GET', 'Upgrade: h2c', 'Connection: upgrade'))
  t.notOk(asks('GET', 'Upgrade: websocket, h2c', 'Connection: upgrade'))
  t.end()
})

await t.test('answers', (t) => {
  const head = new Http1ResponseHead()
  const length = (text: string, isToHead = false): number => {
    t.equal(head.parse(bytes(text), 0, text.length, isToHead), text.length, text)
    for (let end = 0; end < text.length; end += 1)
      if (head.parse(bytes(text), 0, end, isToHead) !== INCOMPLETE) t.fail(`${text}, after ${end}`)
    head.parse(bytes(text), 0, text.length, isToHead)
    return head.bodyLength
  }
  t.equal(length('HTTP/1.1 200 OK\r\n\r\n'), UNTIL_CLOSE)
  t.equal(length('HTTP/1.1 200\r\n\r\n'), UNTIL_CLOSE, 'no reason, nor the blank before it')
  t.equal(length('HTTP/1.1 200 \r\nContent-Length: 3\r\n\r\n'), 3)
  t.equal(length('HTTP/1.1 404 Nicht da: \xfc\r\nTransfer-Encoding: chunked\r\n\r\n'), CHUNKED)
  t.equal(length('HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n', true), 0)
  t.equal(length('HTTP/1.1 304 x\r\nContent-Length: 3\r\n\r\n'), 0)
  t.equal(length('HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n'), UNTIL_CLOSE)
  for (const bad of [
    'HTTP/1.1 20 OK\r\n\r\n',
    'HTTP/1.1 2000 OK\r\n\r\n',
    'HTTP/1.1 099 OK\r\n\r\n',
    'HTTP/1.1  200 OK\r\n\r\n',
    'HTTP/2.0 200 OK\r\n\r\n',
    'HTTP/1.1 200 OK\n\r\n',
    'HTTP/1.1 200 O\0K\r\n\r\n',
    'ICY 200 OK\r\n\r\n',
    'HTTP/1.1 200 OK\r\nx : y\r\n\r\n',
    'HTTP/1.1 200 OK\r\nx: y\r\n z\r\n\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n',
    'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n',
  ])
    t.equal(head.parse(bytes(bad), 0, bad.length, false), BAD, bad)
  t.end()
})
