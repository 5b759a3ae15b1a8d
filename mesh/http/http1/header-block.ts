// SPDX-License-Identifier: Apache-2.0
// The header lines of a message as they came, with a note of where each name and value lies. No string is made of what nobody looks
// at, and lines that stay are copied on as they are. Used again for the next message. Hot: bench/http-exchange.ts watches it.

import { type HeaderName, idOfName, MOST_NAMES, nextNameId } from '../header-names.ts'
import { type Fields, separatorOf } from '../message.ts'
import { CLASSES, TOKEN, VALUE } from '../octets.ts'
import { BAD, type HttpProblem, INCOMPLETE, PROBLEM } from './problem.ts'

/** As many as servers take by default, and somewhat more: what the mesh adds must not be what breaks a call. */
const MOST_FIELDS = 128
const WORDS = 5
const CR = 0x0d
const LF = 0x0a
const COLON = 0x3a
const SPACE = 0x20
const TAB = 0x09
const NOTHING = Buffer.alloc(0)
const NO_FIELD = -1

export class HeaderBlock implements Fields {
  bytes: Buffer = NOTHING
  /** Fields there are. */
  count = 0
  /** From the first line on. */
  start = 0
  /** After the last line, before the empty one. */
  end = 0
  problem: HttpProblem | undefined
  /** For each field: start of line, id of name, start and end of value, end of line. */
  readonly #words = new Int32Array(MOST_FIELDS * WORDS)
  /** Names from this id on were made after it was read. */
  #unknownId = 0
  /** The first field of each id. */
  readonly #first = new Int16Array(MOST_NAMES).fill(NO_FIELD)

  /**
   * Reads lines from `start` up to the empty one, and gives the offset after that; INCOMPLETE when `limit` comes first, BAD with the
   * problem when there is one. RFC 9112 5: no blank before the colon, no folded line, and each line ends with CR LF.
   */
  parse(bytes: Buffer, start: number, limit: number): number {
    this.clear()
    this.bytes = bytes
    this.start = start
    this.#unknownId = nextNameId()
    const words = this.#words
    let at = start
    for (;;) {
      if (at + 2 > limit) return this.#stopped(at, limit)
      if (bytes[at] === CR) {
        if (bytes[at + 1] !== LF) return this.#bad(PROBLEM.fieldLine)
        this.end = at
        return at + 2
      }
      const line = at
      while (at < limit && ((CLASSES[bytes[at] ?? 0] ?? 0) & TOKEN) !== 0) at += 1
      if (at >= limit) return INCOMPLETE
      if (bytes[at] !== COLON || at === line) return this.#bad(PROBLEM.fieldLine)
      const nameEnd = at
      at += 1
      while (at < limit && isBlank(bytes[at])) at += 1
      const valueStart = at
      while (at < limit && ((CLASSES[bytes[at] ?? 0] ?? 0) & VALUE) !== 0) at += 1
      if (at + 2 > limit) return this.#stopped(at, limit)
      if (bytes[at] !== CR || bytes[at + 1] !== LF) return this.#bad(PROBLEM.fieldLine)
      let valueEnd = at
      while (valueEnd > valueStart && isBlank(bytes[valueEnd - 1])) valueEnd -= 1
      at += 2
      if (this.count === MOST_FIELDS) return this.#bad(PROBLEM.manyFields)
      const id = idOfName(bytes, line, nameEnd)
      const word = this.count * WORDS
      words[word] = line
      words[word + 1] = id
      words[word + 2] = valueStart
      words[word + 3] = valueEnd
      words[word + 4] = at
      if (id !== 0 && this.#first[id] === NO_FIELD) this.#first[id] = this.count
      this.count += 1
    }
  }

  /** Forgets all fields. */
  clear(): void {
    for (let index = 0; index < this.count; index += 1) this.#first[this.idAt(index)] = NO_FIELD
    this.count = 0
    this.problem = undefined
  }

  lineStart(index: number): number {
    return this.#words[index * WORDS] ?? 0
  }

  idAt(index: number): number {
    return this.#words[index * WORDS + 1] ?? 0
  }

  valueStart(index: number): number {
    return this.#words[index * WORDS + 2] ?? 0
  }

  valueEnd(index: number): number {
    return this.#words[index * WORDS + 3] ?? 0
  }

  lineEnd(index: number): number {
    return this.#words[index * WORDS + 4] ?? 0
  }

  /** The place of the first field of that name, -1 when there is none. */
  firstOf(name: HeaderName): number {
    if (this.#hasId(name)) return this.#first[name.id] ?? NO_FIELD
    return this.#search(name, 0)
  }

  /** Whether more than one field has that name. */
  isRepeated(name: HeaderName): boolean {
    return this.#search(name, this.firstOf(name) + 1) !== NO_FIELD
  }

  isNamed(index: number, name: HeaderName): boolean {
    const id = this.idAt(index)
    if (this.#hasId(name)) return id === name.id
    return id === 0 && this.nameAt(index) === name.text
  }

  nameAt(index: number): string {
    const start = this.lineStart(index)
    return this.bytes.toString('latin1', start, this.bytes.indexOf(COLON, start)).toLowerCase()
  }

  valueAt(index: number): string {
    return this.bytes.toString('latin1', this.valueStart(index), this.valueEnd(index))
  }

  value(name: HeaderName): string | undefined {
    const index = this.firstOf(name)
    return index === NO_FIELD ? undefined : this.valueAt(index)
  }

  joined(name: HeaderName): string | undefined {
    let index = this.firstOf(name)
    if (index === NO_FIELD) return undefined
    let text = this.valueAt(index)
    while ((index = this.#search(name, index + 1)) !== NO_FIELD)
      text += separatorOf(name) + this.valueAt(index)
    return text
  }

  each(visit: (name: string, value: string) => void): void {
    for (let index = 0; index < this.count; index += 1)
      visit(this.nameAt(index), this.valueAt(index))
  }

  #search(name: HeaderName, from: number): number {
    for (let index = from; index < this.count; index += 1)
      if (this.isNamed(index, name)) return index
    return NO_FIELD
  }

  #hasId({ id }: HeaderName): boolean {
    return id !== 0 && id < this.#unknownId
  }

  /** The bytes ended where a line might: what is there already may be wrong. */
  #stopped(at: number, limit: number): number {
    if (at >= limit || bytesMayEndLine(this.bytes, at)) return INCOMPLETE
    return this.#bad(PROBLEM.fieldLine)
  }

  #bad(problem: HttpProblem): number {
    this.problem = problem
    return BAD
  }
}

/** One byte is left: the first of a line or of its end. */
function bytesMayEndLine(bytes: Buffer, at: number): boolean {
  const octet = bytes[at] ?? 0
  return octet === CR || ((CLASSES[octet] ?? 0) & TOKEN) !== 0
}

function isBlank(octet: number | undefined): boolean {
  return octet === SPACE || octet === TAB
}
