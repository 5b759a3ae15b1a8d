// SPDX-License-Identifier: Apache-2.0
// What clients send that parsers disagree about: by the RFCs, the classes of case that parsers are tested with, and the known ways to
// hide one request in another. Each target begins with `/~`, so that a run can tell its own. `seen`: what the app is to hear of, as method,
// target and body; `told`: the statuses that the client is to hear of, in order, where the app answers all with 200.

export interface OddCase {
  readonly name: string
  readonly bytes: string
  readonly seen: readonly string[]
  readonly told: readonly number[]
}

const HOST = 'Host: h\r\n'
const NEXT = `GET /~next HTTP/1.1\r\n${HOST}\r\n`
const HIDDEN = `GET /~hidden HTTP/1.1\r\n${HOST}\r\n`

/** A POST with such lines and such a body, and a request after it. */
function posted(lines: string, body: string, version = '1.1'): string {
  return `POST /~a HTTP/${version}\r\n${HOST}${lines}\r\n${body}${NEXT}`
}

function refused(name: string, bytes: string, status = 400): OddCase {
  return { name, bytes, seen: [], told: [status] }
}

const BOTH = ['POST /~a hello', 'GET /~next ']
const served = (name: string, bytes: string, seen: readonly string[] = BOTH): OddCase => ({
  name,
  bytes,
  seen,
  told: seen.map(() => 200),
})

const CHUNKED = 'Transfer-Encoding: chunked\r\n'
const BODY_REQUEST = 'GET /x HTTP/1.1\r\nHost: h\r\n\r\n'
const HELLO = '5\r\nhello\r\n0\r\n\r\n'

/** The framing of bodies. */
const BODIES: readonly OddCase[] = [
  served('a body by its length', posted('Content-Length: 5\r\n', 'hello')),
  served('a body in chunks', posted(CHUNKED, HELLO)),
  served('sizes in capitals, with zeros', posted(CHUNKED, '0005\r\nhello\r\n000\r\n\r\n')),
  served('extensions', posted(CHUNKED, '5;a;b=c;d="e;f"\r\nhello\r\n0;f\r\n\r\n')),
  served('trailers', posted(CHUNKED, '5\r\nhello\r\n0\r\nx-sum: 1\r\nContent-Length: 9\r\n\r\n')),
  served('blanks around a length', posted('Content-Length:  5  \r\n', 'hello')),
  refused('tabs around a length', posted('Content-Length: \t5 \t\r\n', 'hello')),
  served('no body at all', `POST /~a HTTP/1.1\r\n${HOST}\r\n${NEXT}`, ['POST /~a ', 'GET /~next ']),
  served(
    'a body of a GET that reads as a request',
    `GET /~a HTTP/1.1\r\n${HOST}Content-Length: ${BODY_REQUEST.length}\r\n\r\n${BODY_REQUEST}${NEXT}`,
    [`GET /~a ${BODY_REQUEST}`, 'GET /~next '],
  ),
  refused(
    'length and coding',
    posted(`Content-Length: 4\r\n${CHUNKED}`, `5c\r\n${HIDDEN}\r\n0\r\n\r\n`),
  ),
  refused('coding and length', posted(`${CHUNKED}Content-Length: 5\r\n`, `0\r\n\r\n${HIDDEN}`)),
  refused('two lengths', posted('Content-Length: 5\r\nContent-Length: 0\r\n', 'hello')),
  refused('two equal lengths', posted('Content-Length: 5\r\nContent-Length: 5\r\n', 'hello')),
  refused('a list of lengths', posted('Content-Length: 5, 5\r\n', 'hello')),
  refused('a length with a sign', posted('Content-Length: +5\r\n', 'hello')),
  refused('a length with a blank', posted('Content-Length: 5 0\r\n', 'hello')),
  refused('a hexadecimal length', posted('Content-Length: 0x5\r\n', 'hello')),
  refused('a length with a fraction', posted('Content-Length: 5.0\r\n', 'hello')),
  refused('a length with an underscore', posted('Content-Length: 0_5\r\n', 'hello')),
  refused('an empty length', posted('Content-Length:\r\n', 'hello')),
  refused('a length beyond 64 bits', posted('Content-Length: 18446744073709551621\r\n', 'hello')),
  refused('chunked twice', posted('Transfer-Encoding: chunked, chunked\r\n', HELLO)),
  refused('chunked before another', posted('Transfer-Encoding: chunked, identity\r\n', HELLO)),
  refused('chunked after another', posted('Transfer-Encoding: gzip, chunked\r\n', HELLO), 501),
  refused('identity', posted('Transfer-Encoding: identity\r\nContent-Length: 5\r\n', 'hello')),
  refused('a word like chunked', posted('Transfer-Encoding: xchunked\r\n', HELLO)),
  refused('chunked with a parameter', posted('Transfer-Encoding: chunked;q=1\r\n', HELLO)),
  refused('chunked after a vertical tab', posted('Transfer-Encoding: \x0bchunked\r\n', HELLO)),
  refused('chunked in quotes', posted('Transfer-Encoding: "chunked"\r\n', HELLO)),
  refused('an empty coding', posted('Transfer-Encoding:\r\n', HELLO)),
  refused('a blank before the colon', posted('Transfer-Encoding : chunked\r\n', HELLO)),
  refused('a folded coding', posted('Transfer-Encoding:\r\n chunked\r\n', HELLO)),
  refused('a coding behind a bare CR', posted('X: y\rTransfer-Encoding: chunked\r\n', HELLO)),
  refused('a coding behind a bare LF', posted('X: y\nTransfer-Encoding: chunked\r\n', HELLO)),
  refused('a coding behind NUL', posted('X: y\0\r\nTransfer-Encoding: chunked\r\n', HELLO)),
  refused('a coding in HTTP/1.0', posted(CHUNKED, HELLO, '1.0')),
]

/** Chunks: the head was good and has gone on, so that the app hears of no end. */
const CHUNKS: readonly OddCase[] = [
  'a size with a sign|+5\r\nhello\r\n0\r\n\r\n',
  'a size with 0x|0x5\r\nhello\r\n0\r\n\r\n',
  'a size with a blank before it| 5\r\nhello\r\n0\r\n\r\n',
  'a size that is none|g\r\nhello\r\n0\r\n\r\n',
  'no size|\r\nhello\r\n0\r\n\r\n',
  'a size beyond 64 bits|10000000000000005\r\nhello\r\n0\r\n\r\n',
  'a bare LF after the size|5\nhello\r\n0\r\n\r\n',
  'a bare CR after the size|5\rhello\r\n0\r\n\r\n',
  'a bare LF in an extension|5;a\nb\r\nhello\r\n0\r\n\r\n',
  'an extension without a name|5;\r\nhello\r\n0\r\n\r\n',
  'an extension that is left open|5;a="b\r\nhello\r\n0\r\n\r\n',
  'more than the size|3\r\nhello\r\n0\r\n\r\n',
  'a bare LF after the payload|5\r\nhello\n0\r\n\r\n',
  'nothing after the payload|5\r\nhello0\r\n\r\n',
  'a trailer without a colon|5\r\nhello\r\n0\r\nbad\r\n\r\n',
  'a trailer with a bare LF|5\r\nhello\r\n0\r\nx: y\n\r\n',
  'a folded trailer|5\r\nhello\r\n0\r\nx: y\r\n z\r\n\r\n',
].map((text) => {
  const [name = '', body = ''] = text.split('|')
  return refused(`chunks: ${name}`, posted(CHUNKED, body))
})

const get = (line: string, lines = HOST): string => `${line}\r\n${lines}\r\n${NEXT}`
const GOT = ['GET /~a ', 'GET /~next ']

/** Request lines, hosts and fields. */
const HEADS: readonly OddCase[] = [
  served('requests one behind the other', `${get('GET /~a HTTP/1.1')}${NEXT}`, [
    ...GOT,
    'GET /~next ',
  ]),
  served('an empty line before a request', `\r\n\r\n${get('GET /~a HTTP/1.1')}`, GOT),
  served('an absolute target', get('GET http://h/~a HTTP/1.1'), GOT),
  served('an absolute target with the port of its scheme', get('GET http://h:80/~a HTTP/1.1'), GOT),
  served('the same with the port in Host', get('GET http://h/~a HTTP/1.1', 'Host: H:80\r\n'), GOT),
  served('a method of another protocol', get('PROPPATCH /~a HTTP/1.1'), [
    'PROPPATCH /~a ',
    'GET /~next ',
  ]),
  {
    name: 'what follows the last request is not read',
    bytes: `GET /~a HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n${HIDDEN}`,
    seen: ['GET /~a '],
    told: [200],
  },
  {
    name: 'HTTP/1.0 closes unless it is asked not to',
    bytes: `GET /~a HTTP/1.0\r\n${HOST}\r\n${HIDDEN}`,
    seen: ['GET /~a '],
    told: [200],
  },
  refused('HTTP/0.9', `GET /~a\r\n${NEXT}`),
  refused('HTTP/2.0', get('GET /~a HTTP/2.0'), 505),
  refused('a version of two digits', get('GET /~a HTTP/1.10')),
  refused('another protocol', get('GET /~a RTSP/1.0')),
  refused('no version digit', get('GET /~a HTTP/1.')),
  refused('a bare LF after the request line', `GET /~a HTTP/1.1\n${HOST}\r\n${NEXT}`),
  refused('a bare CR in the request line', get('GET /~a\rb HTTP/1.1')),
  refused('two blanks', get('GET  /~a HTTP/1.1')),
  refused('a tab', get('GET\t/~a HTTP/1.1')),
  refused('a form feed', get('GET /~a\f HTTP/1.1')),
  refused('a second version', get('GET /~a HTTP/1.1 HTTP/1.1')),
  refused('a fragment', get('GET /~a#b HTTP/1.1')),
  refused('a target without a slash', get('GET a/~a HTTP/1.1')),
  refused('a target with a user', get('GET http://u@h/~a HTTP/1.1')),
  refused('a target that names another host', get('GET http://i/~a HTTP/1.1')),
  refused('an asterisk', get('GET * HTTP/1.1')),
  refused('CONNECT', get('CONNECT h:1 HTTP/1.1'), 405),
  refused('no Host', get('GET /~a HTTP/1.1', '')),
  refused('two Hosts', get('GET /~a HTTP/1.1', `${HOST}Host: i\r\n`)),
  refused('Host behind a blank', get('GET /~a HTTP/1.1', ` ${HOST}`)),
  refused('a list of Hosts', get('GET /~a HTTP/1.1', 'Host: h, i\r\n')),
  refused('a path in Host', get('GET /~a HTTP/1.1', 'Host: h/~b\r\n')),
  refused('a user in Host', get('GET /~a HTTP/1.1', 'Host: u@h\r\n')),
  refused('a name without a colon', get('GET /~a HTTP/1.1', `${HOST}bad\r\n`)),
  refused('no name', get('GET /~a HTTP/1.1', `${HOST}: bad\r\n`)),
  refused('a name with a blank', get('GET /~a HTTP/1.1', `${HOST}b d: y\r\n`)),
  refused('a name with NUL', get('GET /~a HTTP/1.1', `${HOST}b\0d: y\r\n`)),
  refused('a value with NUL', get('GET /~a HTTP/1.1', `${HOST}x: b\0d\r\n`)),
  refused('a folded value', get('GET /~a HTTP/1.1', `${HOST}x: b\r\n\tc\r\n`)),
  refused(
    'an expectation that nobody meets',
    posted('Content-Length: 5\r\nExpect: 100\r\n', 'hello'),
    417,
  ),
  refused('Connection that is no list', get('GET /~a HTTP/1.1', `${HOST}Connection: a b\r\n`)),
  refused('10,000 lines', get('GET /~a HTTP/1.1', `${HOST}${'x: y\r\n'.repeat(10_000)}`), 431),
  refused(
    'a value of 100,000 octets',
    get('GET /~a HTTP/1.1', `${HOST}x: ${'y'.repeat(100_000)}\r\n`),
    431,
  ),
  refused('a target of 20,000 octets', get(`GET /~${'a'.repeat(20_000)} HTTP/1.1`), 414),
]

/** Fields by which a hop is told what another one is not to see. */
const HOPS: readonly OddCase[] = [
  served(
    'Connection names the length',
    posted('Connection: content-length\r\nContent-Length: 5\r\n', 'hello'),
  ),
  served(
    'Connection names the coding',
    posted(`Connection: transfer-encoding\r\n${CHUNKED}`, HELLO),
  ),
  served('Connection names Host', get('GET /~a HTTP/1.1', `${HOST}Connection: host\r\n`), GOT),
  served(
    'an upgrade to HTTP/2 that nobody makes',
    get(
      'GET /~a HTTP/1.1',
      `${HOST}Upgrade: h2c\r\nConnection: upgrade, http2-settings\r\nHTTP2-Settings: AAAA\r\n`,
    ),
    GOT,
  ),
]

export const ODD_CASES: readonly OddCase[] = [...BODIES, ...CHUNKS, ...HEADS, ...HOPS]

/** A case as the one of such a number, whose targets are its own. */
export function numbered(odd: OddCase, number: number): OddCase {
  const own = (text: string): string => text.replaceAll('/~', `/${number}/`)
  return { ...odd, bytes: own(odd.bytes), seen: odd.seen.map(own) }
}
