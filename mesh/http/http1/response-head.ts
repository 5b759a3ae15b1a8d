// SPDX-License-Identifier: Apache-2.0
// Reads the head of an answer. Hot: bench/http-exchange.ts watches it.

import type { ResponseMessage } from '../message.ts'
import { CLASSES, VALUE } from '../octets.ts'
import { statedLength } from './body-length.ts'
import { Http1MessageHead } from './message-head.ts'
import { type HttpProblem, INCOMPLETE, PROBLEM } from './problem.ts'

const CR = 0x0d
const LF = 0x0a
const SPACE = 0x20
const ZERO = 0x30
const VERSION = Buffer.from('HTTP/1.')
/** `HTTP/1.1 200`. */
const STATUS_BYTES = 12

/** The answer that was read last: valid until the next parse, and while its bytes are. */
export class Http1ResponseHead extends Http1MessageHead implements ResponseMessage {
  status = 0
  /** The line after the version, with its CR LF: passed on as it came. */
  statusStart = 0
  /** That line ends with the number. */
  isTerse = false
  /** Bytes of the body, CHUNKED or UNTIL_CLOSE. */
  bodyLength = 0

  /** Reads the head of an answer to such a request; the offset after it, INCOMPLETE, or BAD with the problem. */
  parse(bytes: Buffer, start: number, end: number, isToHead: boolean): number {
    const limit = this.begin(start, end)
    let isOld = false
    let at = start
    for (let index = 0; index < VERSION.length; index += 1, at += 1) {
      if (at >= limit) return INCOMPLETE
      if (bytes[at] !== VERSION[index]) return this.bad(PROBLEM.statusLine)
    }
    if (start + STATUS_BYTES > limit) return INCOMPLETE
    isOld = bytes[at] === ZERO
    if ((!isOld && bytes[at] !== ZERO + 1) || bytes[at + 1] !== SPACE)
      return this.bad(PROBLEM.statusLine)
    this.statusStart = at + 1
    this.status = 0
    for (at += 2; at < start + STATUS_BYTES; at += 1) {
      const digit = (bytes[at] ?? 0) - ZERO
      if (digit < 0 || digit > 9) return this.bad(PROBLEM.statusLine)
      this.status = this.status * 10 + digit
    }
    if (this.status < 100) return this.bad(PROBLEM.statusLine)
    if (at < limit && bytes[at] !== SPACE && bytes[at] !== CR) return this.bad(PROBLEM.statusLine)
    this.isTerse = bytes[at] === CR
    while (at < limit && ((CLASSES[bytes[at] ?? 0] ?? 0) & VALUE) !== 0) at += 1
    if (at < limit && bytes[at] !== CR) return this.bad(PROBLEM.statusLine)
    if (at + 1 < limit && bytes[at + 1] !== LF) return this.bad(PROBLEM.statusLine)
    const lineEnd = at + 2 > limit ? INCOMPLETE : at + 2
    const read = this.readBlock(bytes, start, lineEnd, limit, end)
    if (read <= 0) return read
    const problem = this.#understand(isOld, isToHead)
    return problem === undefined ? read : this.bad(problem)
  }

  #understand(isOld: boolean, isToHead: boolean): HttpProblem | undefined {
    const { block, status } = this
    const length = statedLength(block, isOld)
    if (typeof length !== 'number') return length
    // RFC 9112 6.3 (1): these have none, whatever they say.
    const isBodiless = isToHead || status < 200 || status === 204 || status === 304
    this.bodyLength = isBodiless ? 0 : length
    return this.understandConnection(isOld)
  }
}
