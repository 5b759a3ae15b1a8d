// SPDX-License-Identifier: Apache-2.0
// Which protocol a client speaks, by what it says first, where nobody declared one. Pure. In doubt it is HTTP, whose codec refuses what is
// none: what an app takes for HTTP and the waypoint does not would pass by the rules for requests.

/** `http2`: with prior knowledge. */
export type DetectedProtocol = 'http1' | 'http2' | 'tcp'

/** As much is looked at; a longer first line can hardly be anything but a request's. */
export const LONGEST_FIRST_LINE = 8 * 1024

/** RFC 9113 3.4. */
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')
const LF = 0x0a
const CR = 0x0d
const SPACE = 0x20
const TAB = 0x09
/** RFC 9110 5.6.2. */
const METHOD = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/

/**
 * What the beginning of a client's bytes is; undefined when more of them are needed to say. `isAll`: no more will come, or nobody waits
 * for more.
 *
 * @example detectProtocol(Buffer.from('GET / HTTP/1.1\r\n'), false) // 'http1'
 */
export function detectProtocol(first: Buffer, isAll: boolean): DetectedProtocol | undefined {
  const shared = Math.min(first.length, PREFACE.length)
  if (first.compare(PREFACE, 0, shared, 0, shared) === 0) {
    if (shared === PREFACE.length) return 'http2'
    if (!isAll) return undefined
  }
  // RFC 9112 2.2: servers skip empty lines before a request.
  let start = 0
  while (first[start] === CR || first[start] === LF) start += 1
  const end = first.indexOf(LF, start)
  const line = first.toString('latin1', start, end < 0 ? first.length : end)
  const blank = indexOfBlank(first, start, end < 0 ? first.length : end)
  const method = blank < 0 ? line.trimEnd() : line.slice(0, blank - start)
  if (method !== '' && !METHOD.test(method)) return 'tcp'
  if (end >= 0) return blank >= 0 && /HTTP\//i.test(line) ? 'http1' : 'tcp'
  if (first.length >= LONGEST_FIRST_LINE) return blank >= 0 ? 'http1' : 'tcp'
  if (!isAll) return undefined
  // A request line that does not come to its end.
  return blank >= 0 && /^[/*]|^[a-z][a-z0-9+.-]*:\/\//i.test(line.slice(blank - start).trimStart())
    ? 'http1'
    : 'tcp'
}

function indexOfBlank(bytes: Buffer, from: number, to: number): number {
  for (let at = from; at < to; at += 1) if (bytes[at] === SPACE || bytes[at] === TAB) return at
  return -1
}
