// SPDX-License-Identifier: Apache-2.0
// Reads the head of a request. Hot: bench/http-exchange.ts watches it.

import { HEADER } from '../header-names.ts'
import type { RequestMessage } from '../message.ts'
import { CLASSES, TARGET, TOKEN } from '../octets.ts'
import { absoluteTarget, isAuthority, isSameAuthority } from './authority.ts'
import { statedLength, UNTIL_CLOSE } from './body-length.ts'
import { hasToken } from './connection-options.ts'
import { Http1MessageHead } from './message-head.ts'
import { type HttpProblem, INCOMPLETE, PROBLEM } from './problem.ts'

/** Longer than any registered one. */
const LONGEST_METHOD = 32
/** What browsers and servers take. */
const LONGEST_TARGET = 16 * 1024
const SPACE = 0x20
const CR = 0x0d
const LF = 0x0a
const SLASH = 0x2f
const VERSION = Buffer.from(' HTTP/1.')
/** After the target: the version, its last digit, and the end of the line. */
const VERSION_BYTES = VERSION.length + 3

/** The request that was read last: valid until the next parse, and while its bytes are. */
export class Http1RequestHead extends Http1MessageHead implements RequestMessage {
  protocol: 'HTTP/1.0' | 'HTTP/1.1' = 'HTTP/1.1'
  method = ''
  target = ''
  authority = ''
  /** Bytes of the body, or CHUNKED. */
  bodyLength = 0
  /** It asks for a WebSocket: the one protocol that is let through as bytes (RFC 9110 7.8, RFC 6455). */
  isWebSocket = false
  /** It waits for 100 before it sends its body. */
  isExpectant = false
  takesTrailers = false

  /** Reads a head; the offset after it, INCOMPLETE, or BAD with the problem. */
  parse(bytes: Buffer, start: number, end: number): number {
    const limit = this.begin(start, end)
    // What is told of one that cannot be read must not be another's.
    this.protocol = 'HTTP/1.1'
    this.method = this.target = this.authority = ''
    const lineEnd = this.#parseLine(bytes, start, limit)
    const read = this.readBlock(bytes, start, lineEnd, limit, end)
    if (read <= 0) return read
    const problem = this.#understand()
    return problem === undefined ? read : this.bad(problem)
  }

  #parseLine(bytes: Buffer, start: number, limit: number): number {
    let at = start
    while (at < limit && ((CLASSES[bytes[at] ?? 0] ?? 0) & TOKEN) !== 0) at += 1
    if (at - start > LONGEST_METHOD) return this.bad(PROBLEM.requestLine)
    if (at >= limit) return INCOMPLETE
    if (bytes[at] !== SPACE || at === start) return this.bad(PROBLEM.requestLine)
    const methodEnd = at
    at += 1
    const targetStart = at
    while (at < limit && ((CLASSES[bytes[at] ?? 0] ?? 0) & TARGET) !== 0) at += 1
    if (at - targetStart > LONGEST_TARGET) return this.bad(PROBLEM.longTarget)
    if (at >= limit) return INCOMPLETE
    if (bytes[at] !== SPACE || at === targetStart) return this.bad(PROBLEM.requestLine)
    const targetEnd = at
    this.method = methodText(bytes, start, methodEnd)
    this.target = bytes.toString('latin1', targetStart, targetEnd)
    for (let index = 0; index < VERSION.length; index += 1, at += 1) {
      if (at >= limit) return INCOMPLETE
      if (bytes[at] !== VERSION[index]) return this.bad(this.#versionProblem(bytes, targetEnd))
    }
    if (targetEnd + VERSION_BYTES > limit) return INCOMPLETE
    const digit = bytes[at]
    if (digit !== 0x30 && digit !== 0x31) return this.bad(this.#versionProblem(bytes, targetEnd))
    if (bytes[at + 1] !== CR || bytes[at + 2] !== LF) return this.bad(PROBLEM.requestLine)
    this.protocol = digit === 0x31 ? 'HTTP/1.1' : 'HTTP/1.0'
    return at + 3
  }

  /** Another version is told apart from what is no version at all. */
  #versionProblem(bytes: Buffer, targetEnd: number): HttpProblem {
    const text = bytes.toString('latin1', targetEnd + 1, targetEnd + 1 + 'HTTP/d.d'.length)
    return /^HTTP\/\d\.\d$/.test(text) ? PROBLEM.version : PROBLEM.requestLine
  }

  /** What the fields mean, and whether that can be carried on. */
  #understand(): HttpProblem | undefined {
    const { block } = this
    const isOld = this.protocol === 'HTTP/1.0'
    const length = statedLength(block, isOld)
    if (typeof length !== 'number') return length
    // RFC 9112 6.3 (7): a request that says nothing has none.
    this.bodyLength = length === UNTIL_CLOSE ? 0 : length
    const problem = this.understandConnection(isOld)
    if (problem !== undefined) return problem
    this.takesTrailers =
      !isOld && block.firstOf(HEADER.te) >= 0 && hasToken(block, HEADER.te, 'trailers')
    this.isWebSocket =
      this.options.isUpgrade &&
      !isOld &&
      this.method === 'GET' &&
      this.bodyLength === 0 &&
      block.value(HEADER.upgrade)?.toLowerCase() === 'websocket' &&
      !block.isRepeated(HEADER.upgrade)
    this.isExpectant = false
    if (!isOld && block.firstOf(HEADER.expect) >= 0) {
      if (block.joined(HEADER.expect)?.toLowerCase() !== '100-continue') return PROBLEM.expectation
      this.isExpectant = this.bodyLength !== 0
    }
    return this.#understandTarget(isOld)
  }

  /** RFC 9112 3.2: which server is meant, and what of it; the forms of a target must leave no doubt. */
  #understandTarget(isOld: boolean): HttpProblem | undefined {
    const { block, target } = this
    const host = block.value(HEADER.host)
    if (host === undefined ? !isOld : !isAuthority(host)) return PROBLEM.host
    if (host !== undefined && block.isRepeated(HEADER.host)) return PROBLEM.host
    this.authority = host ?? ''
    if (this.method === 'CONNECT') return PROBLEM.connect
    if (target.charCodeAt(0) === SLASH) return undefined
    if (target === '*') return this.method === 'OPTIONS' ? undefined : PROBLEM.target
    const absolute = absoluteTarget(target)
    if (absolute === undefined) return PROBLEM.target
    // RFC 9112 3.2: a client says the same twice; one that does not is up to something.
    if (host !== undefined && !isSameAuthority(host, absolute)) return PROBLEM.hostDiffers
    this.authority = absolute.authority
    // RFC 9112 3.2.4: so a client of a proxy asks about the whole server.
    this.target = absolute.isBare && this.method === 'OPTIONS' ? '*' : absolute.target
    return undefined
  }
}

/** Hot: no string is made for those that nearly all requests have. */
function methodText(bytes: Buffer, start: number, end: number): string {
  const length = end - start
  if (
    length === 3 &&
    bytes[start] === 0x47 &&
    bytes[start + 1] === 0x45 &&
    bytes[start + 2] === 0x54
  )
    return 'GET'
  return bytes.toString('latin1', start, end)
}
