// SPDX-License-Identifier: Apache-2.0
// What is wrong with a head or a body that cannot be understood for certain. Nothing is repaired: where two readers might disagree on
// where a message ends, a request hides in another (RFC 9112 11.2).

/** Answers of the readers: an offset above 0 is where the reading ended. */
export const INCOMPLETE = 0
export const BAD = -1

export interface HttpProblem {
  /** What a client is told for it. */
  readonly status: 400 | 405 | 408 | 414 | 417 | 431 | 501 | 505
  readonly text: string
}

function problem(status: HttpProblem['status'], text: string): HttpProblem {
  return { status, text }
}

export const PROBLEM = {
  requestLine: problem(400, 'the request line is malformed'),
  statusLine: problem(400, 'the status line is malformed'),
  version: problem(505, 'the version is neither HTTP/1.0 nor HTTP/1.1'),
  target: problem(400, 'the request target has none of the forms of RFC 9112 3.2'),
  longTarget: problem(414, 'the request target is too long'),
  connect: problem(405, 'CONNECT asks for a tunnel, which nobody offers here'),
  fieldLine: problem(400, 'a header line is malformed'),
  manyFields: problem(431, 'there are too many headers'),
  largeHead: problem(431, 'the headers are too large'),
  host: problem(400, 'Host is missing, malformed or there more than once'),
  hostDiffers: problem(400, 'Host and the authority of the request target differ'),
  contentLength: problem(400, 'Content-Length is no number or there more than once'),
  bothLengths: problem(400, 'Content-Length and Transfer-Encoding exclude one another'),
  transferEncoding: problem(400, 'Transfer-Encoding does not end with chunked, once'),
  unknownCoding: problem(501, 'Transfer-Encoding names more than chunked'),
  oldChunked: problem(400, 'HTTP/1.0 has no Transfer-Encoding'),
  connection: problem(400, 'Connection is no list of tokens'),
  expectation: problem(417, 'Expect asks for something other than 100-continue'),
  chunk: problem(400, 'the chunked body is malformed'),
  trailer: problem(400, 'the trailers are malformed or too large'),
  slowHead: problem(408, 'the rest of the request line and headers did not come'),
  slowBody: problem(408, 'the rest of the body did not come'),
  unrequestedSwitch: problem(400, 'the server switches to a protocol that nobody asked for'),
} as const satisfies Record<string, HttpProblem>
