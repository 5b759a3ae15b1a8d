// SPDX-License-Identifier: Apache-2.0
// Where a body ends (RFC 9112 6.3). Whatever is not said once and plainly is refused.

import { HEADER } from '../header-names.ts'
import type { HeaderBlock } from './header-block.ts'
import { type HttpProblem, PROBLEM } from './problem.ts'

/** A number of bytes from 0 on, or one of these. */
export const CHUNKED = -1
export const UNTIL_CLOSE = -2

/** A petabyte and below 2^53; longer numbers are nobody's. */
const MOST_DIGITS = 15
const ZERO = 0x30
const TAB = 0x09

/** What the fields say: bytes, CHUNKED, UNTIL_CLOSE where they say nothing, or the problem. */
export function statedLength(block: HeaderBlock, isOld: boolean): number | HttpProblem {
  const coding = block.firstOf(HEADER.transferEncoding)
  const length = block.firstOf(HEADER.contentLength)
  if (coding < 0) return length < 0 ? UNTIL_CLOSE : contentLength(block, length)
  if (length >= 0) return PROBLEM.bothLengths
  // RFC 9112 6.1: who does not know chunked cannot have meant it.
  if (isOld) return PROBLEM.oldChunked
  const text = block.joined(HEADER.transferEncoding)?.toLowerCase() ?? ''
  if (text === 'chunked') return CHUNKED
  const codings = text.split(',').map((one) => one.trim())
  const isLast = codings.indexOf('chunked') === codings.length - 1
  return isLast ? PROBLEM.unknownCoding : PROBLEM.transferEncoding
}

function contentLength(block: HeaderBlock, index: number): number | HttpProblem {
  if (block.isRepeated(HEADER.contentLength)) return PROBLEM.contentLength
  const start = block.valueStart(index)
  const end = block.valueEnd(index)
  if (start === end || end - start > MOST_DIGITS) return PROBLEM.contentLength
  let value = 0
  for (let at = start; at < end; at += 1) {
    const digit = (block.bytes[at] ?? 0) - ZERO
    if (digit < 0 || digit > 9) return PROBLEM.contentLength
    value = value * 10 + digit
  }
  return hasTab(block, index) ? PROBLEM.contentLength : value
}

/** RFC 9110 5.6.3 allows tabs around a value, but nginx for one takes them for a part of it; and the line goes on as it came. */
function hasTab(block: HeaderBlock, index: number): boolean {
  const end = block.lineEnd(index)
  for (let at = block.lineStart(index); at < end; at += 1) if (block.bytes[at] === TAB) return true
  return false
}
