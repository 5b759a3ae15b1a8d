// SPDX-License-Identifier: Apache-2.0
// Reads a chunked body (RFC 9112 7.1): runs of payload, then the trailers. Sizes, extensions and ends of lines are taken by the letter
// of the grammar, for what one reader skips another may read. Hot: bench/http-exchange.ts watches it.

import { CLASSES, TOKEN, VALUE } from '../octets.ts'
import { KeptBytes } from './kept-bytes.ts'
import { HeaderBlock } from './header-block.ts'
import { LARGEST_TRAILER_BYTES } from './limits.ts'
import { BAD, type HttpProblem, PROBLEM } from './problem.ts'

/** Leading zeros included. */
const MOST_SIZE_DIGITS = 16
/** Below 2^53, with room for one more digit. */
const LARGEST_CHUNK = 2 ** 48
/** Extensions mean nothing to anybody and are dropped. */
const LONGEST_EXTENSIONS = 1024

const CR = 0x0d
const LF = 0x0a
const SPACE = 0x20
const TAB = 0x09
const SEMICOLON = 0x3b
const EQUALS = 0x3d
const QUOTE = 0x22
const BACKSLASH = 0x5c

const AT = {
  firstDigit: 0,
  digits: 1,
  blankAfterSize: 2,
  extensionStart: 3,
  extensionName: 4,
  blankAfterName: 5,
  valueStart: 6,
  valueToken: 7,
  valueQuoted: 8,
  valueEscaped: 9,
  blankAfterValue: 10,
  sizeLineFeed: 11,
  payload: 12,
  payloadReturn: 13,
  payloadLineFeed: 14,
  trailerLine: 15,
  trailerRest: 16,
  trailerEnd: 17,
  done: 18,
} as const
type State = (typeof AT)[keyof typeof AT]

export class ChunkedReader {
  /** The payload that read() found; empty when none. */
  payloadStart = 0
  payloadEnd = 0
  isDone = false
  problem: HttpProblem | undefined
  #state: State = AT.firstDigit
  #left = 0
  #digits = 0
  #extensionBytes = 0
  #trailers: KeptBytes | undefined
  #block: HeaderBlock | undefined

  reset(): void {
    this.isDone = false
    this.problem = undefined
    this.#state = AT.firstDigit
    this.#left = 0
    this.#digits = 0
    this.#extensionBytes = 0
    this.#trailers?.clear()
    this.#block?.clear()
  }

  /** What came after the last chunk, as it came; undefined when nothing did. Valid until reset(). */
  get trailers(): HeaderBlock | undefined {
    return this.#block === undefined || this.#block.count === 0 ? undefined : this.#block
  }

  /**
   * Reads on until it has found payload, the end, or used up the bytes. Gives the offset where it stopped, or BAD. The payload found is
   * from payloadStart to payloadEnd.
   */
  read(bytes: Buffer, start: number, end: number): number {
    this.payloadStart = this.payloadEnd = start
    let at = start
    while (at < end) {
      if (this.#state === AT.payload) {
        const length = Math.min(this.#left, end - at)
        this.payloadStart = at
        this.payloadEnd = at + length
        this.#left -= length
        if (this.#left === 0) this.#state = AT.payloadReturn
        return at + length
      }
      const next = this.#step(bytes[at] ?? 0)
      if (next < 0) {
        this.problem ??= PROBLEM.chunk
        return BAD
      }
      this.#state = next as State
      at += 1
      if (next === AT.done) return this.#finish(at)
    }
    return at
  }

  #step(octet: number): State | -1 {
    switch (this.#state) {
      case AT.firstDigit:
      case AT.digits:
        return this.#sizeDigit(octet)
      case AT.blankAfterSize:
        return this.#inExtension(
          isBlank(octet) ? AT.blankAfterSize : octet === SEMICOLON ? AT.extensionStart : BAD,
        )
      case AT.sizeLineFeed:
        if (octet !== LF) return BAD
        return this.#left > 0 ? AT.payload : AT.trailerLine
      case AT.payloadReturn:
        return octet === CR ? AT.payloadLineFeed : BAD
      case AT.payloadLineFeed:
        this.#digits = 0
        this.#extensionBytes = 0
        return octet === LF ? AT.firstDigit : BAD
      case AT.trailerLine:
      case AT.trailerRest:
      case AT.trailerEnd:
        return this.#trailerOctet(octet)
      default:
        return this.#inExtension(extensionStep(this.#state, octet))
    }
  }

  #sizeDigit(octet: number): State | -1 {
    const digit = hexDigit(octet)
    if (digit >= 0) {
      this.#left = this.#left * 16 + digit
      this.#digits += 1
      return this.#digits > MOST_SIZE_DIGITS || this.#left > LARGEST_CHUNK ? BAD : AT.digits
    }
    if (this.#state === AT.firstDigit) return BAD
    if (octet === CR) return AT.sizeLineFeed
    if (octet === SEMICOLON) return AT.extensionStart
    return isBlank(octet) ? AT.blankAfterSize : BAD
  }

  #inExtension(next: State | -1): State | -1 {
    this.#extensionBytes += 1
    return this.#extensionBytes > LONGEST_EXTENSIONS ? BAD : next
  }

  /** Trailers are gathered as they come, and read when the empty line ends them. */
  #trailerOctet(octet: number): State | -1 {
    if (this.#state === AT.trailerLine && octet === CR) return this.#keep(octet, AT.trailerEnd)
    if (this.#state === AT.trailerEnd) return octet === LF ? this.#keep(octet, AT.done) : BAD
    if (octet !== LF) return this.#keep(octet, AT.trailerRest)
    const isLine = this.#state === AT.trailerRest && this.#trailers?.last === CR
    return isLine ? this.#keep(octet, AT.trailerLine) : BAD
  }

  #keep(octet: number, next: State): State | -1 {
    // Nearly all bodies have none: the empty line alone needs no memory.
    if (this.#trailers === undefined || this.#trailers.length === 0) {
      if (next === AT.trailerEnd || next === AT.done) return next
    }
    const trailers = (this.#trailers ??= new KeptBytes())
    if (trailers.length >= LARGEST_TRAILER_BYTES) {
      this.problem = PROBLEM.trailer
      return BAD
    }
    trailers.appendOctet(octet)
    return next
  }

  #finish(at: number): number {
    this.isDone = true
    const kept = this.#trailers
    if (kept === undefined || kept.length === 0) return at
    const block = (this.#block ??= new HeaderBlock())
    if (block.parse(kept.bytes, kept.start, kept.end) <= 0) {
      this.problem = PROBLEM.trailer
      return BAD
    }
    return at
  }
}

/** `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`, after the first semicolon. */
function extensionStep(state: State, octet: number): State | -1 {
  const isToken = ((CLASSES[octet] ?? 0) & TOKEN) !== 0
  switch (state) {
    case AT.extensionStart:
      if (isBlank(octet)) return AT.extensionStart
      return isToken ? AT.extensionName : BAD
    case AT.extensionName:
    case AT.blankAfterName:
      if (isToken && state === AT.extensionName) return AT.extensionName
      if (isBlank(octet)) return AT.blankAfterName
      if (octet === EQUALS) return AT.valueStart
      return afterElement(octet, state === AT.extensionName)
    case AT.valueStart:
      if (isBlank(octet)) return AT.valueStart
      if (octet === QUOTE) return AT.valueQuoted
      return isToken ? AT.valueToken : BAD
    case AT.valueToken:
      if (isToken) return AT.valueToken
      return isBlank(octet) ? AT.blankAfterValue : afterElement(octet, true)
    case AT.valueQuoted:
      if (octet === QUOTE) return AT.blankAfterValue
      if (octet === BACKSLASH) return AT.valueEscaped
      return ((CLASSES[octet] ?? 0) & VALUE) !== 0 ? AT.valueQuoted : BAD
    case AT.valueEscaped:
      return ((CLASSES[octet] ?? 0) & VALUE) !== 0 ? AT.valueQuoted : BAD
    case AT.blankAfterValue:
      return isBlank(octet) ? AT.blankAfterValue : afterElement(octet, true)
    default:
      return BAD
  }
}

function afterElement(octet: number, mayEnd: boolean): State | -1 {
  if (octet === SEMICOLON) return AT.extensionStart
  return octet === CR && mayEnd ? AT.sizeLineFeed : BAD
}

function hexDigit(octet: number): number {
  if (octet >= 0x30 && octet <= 0x39) return octet - 0x30
  const letter = octet | 0x20
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1
}

function isBlank(octet: number): boolean {
  return octet === SPACE || octet === TAB
}
