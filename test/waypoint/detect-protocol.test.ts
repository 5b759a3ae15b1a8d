// SPDX-License-Identifier: Apache-2.0
// What a client's first bytes are taken for.

import t from 'tap'
import { detectProtocol, LONGEST_FIRST_LINE } from '../../waypoint/listener/detect-protocol.ts'

const detect = (text: string, isAll = false) => detectProtocol(Buffer.from(text, 'latin1'), isAll)

void t.test('a request line is HTTP/1, however odd: its codec is to judge it', (t) => {
  for (const text of [
    'GET / HTTP/1.1\r\n',
    'get / HTTP/1.1\r\n',
    '\r\n\r\nPOST /a HTTP/1.0\r\n',
    'GET\t/ HTTP/1.1\n',
    'OPTIONS * HTTP/1.1\r\nhost: a\r\n',
    'M-SEARCH http://a/ http/1.1\r\n',
    'GET / HTTP/9.9\r\n',
  ])
    t.equal(detect(text), 'http1', JSON.stringify(text))
  t.end()
})

void t.test('other protocols in which the client speaks first are TCP', (t) => {
  for (const text of [
    '\x16\x03\x01\x02\x00\x01',
    'PING\r\n',
    '*1\r\n$4\r\nPING\r\n',
    'GET name\r\n',
    'SSH-2.0-x\r\n',
    'EHLO example.org\r\n',
    '\x00\x00\x00\x08\x04\xd2\x16\x2f',
  ])
    t.equal(detect(text), 'tcp', JSON.stringify(text))
  t.end()
})

void t.test('the preface of HTTP/2 is told from methods that begin like it', (t) => {
  t.equal(detect('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), 'http2')
  t.equal(detect('PRI * HTTP/2.0\r\n\r\nS'), undefined)
  t.equal(detect('PRINT /a HTTP/1.1\r\n'), 'http1')
  t.end()
})

void t.test('as long as it may be either, more is awaited, and then it is decided', (t) => {
  for (const text of ['', 'G', 'GET', 'GET /a', '\r\n', 'PRI * HT'])
    t.equal(detect(text), undefined)
  t.equal(detect('GET /a', true), 'http1')
  t.equal(detect('GET', true), 'tcp')
  t.equal(detect('GET name', true), 'tcp')
  t.equal(detect('', true), 'tcp')
  t.equal(detect(`GET /${'a'.repeat(LONGEST_FIRST_LINE)}`), 'http1')
  t.equal(detect('a'.repeat(LONGEST_FIRST_LINE)), 'tcp')
  t.end()
})

void t.test('cut anywhere, a beginning is never taken for something else than the whole', (t) => {
  for (const text of [
    'GET /a?b HTTP/1.1\r\n',
    '\r\nPOST / HTTP/1.0\r\n',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'EHLO a\r\n',
  ]) {
    const whole = detect(text)
    for (let length = 0; length < text.length; length += 1) {
      const part = detect(text.slice(0, length))
      t.ok(part === undefined || part === whole, JSON.stringify(text.slice(0, length)))
    }
  }
  t.end()
})
