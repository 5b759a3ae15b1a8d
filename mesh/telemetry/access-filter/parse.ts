// SPDX-License-Identifier: Apache-2.0
// Filters of the access log: a subset of CEL, as Istio's Telemetry API has it in filter.expression. Without regular expressions, loops and
// functions of one's own, so that what an operator writes costs each connection a bounded time.

import { err, ok, type Result } from '../../result.ts'
import { type Token, type TokenKind, tokensOf } from './tokens.ts'

/** Whether a line is wanted; by a record of what it tells of. */
export type AccessFilter<R> = (record: R) => boolean

/** What an expression can ask about; what is unknown is the empty text, or NaN, with which no comparison holds. */
export type Field<R> =
  | { readonly kind: 'text'; readonly read: (record: R) => string }
  | { readonly kind: 'number'; readonly read: (record: R) => number }

export type FieldTable<R> = Readonly<Record<string, Field<R>>>

/** Characters of an expression: some hundred comparisons. */
const LONGEST = 4_096
const DEEPEST = 32
const LISTED = ['==', '!=', '<', '<=', '>', '>=']

const METHODS: Readonly<Record<string, (value: string, part: string) => boolean>> = {
  startsWith: (value, part) => value.startsWith(part),
  endsWith: (value, part) => value.endsWith(part),
  contains: (value, part) => value.includes(part),
}
const DURATION_UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
}

/**
 * Makes the filter of an expression over these fields; the error says where in it, from 1, and what is wrong.
 *
 * @example parseAccessFilter('dst.namespace == "shop" && (has(error) || duration > 500)', FIELDS)
 */
export function parseAccessFilter<R>(
  expression: string,
  fields: FieldTable<R>,
): Result<AccessFilter<R>, string> {
  if (expression.length > LONGEST) return err(`it is longer than ${LONGEST} characters`)
  const tokens = tokensOf(expression)
  if (!tokens.ok) return tokens
  try {
    return ok(new Parser(tokens.value, fields).whole())
  } catch (thrown) {
    if (thrown instanceof Wrong) return err(thrown.message)
    throw thrown
  }
}

/** Never leaves this file: what is wrong with an expression, from whatever depth of it. */
class Wrong extends Error {
  constructor(token: Token, what: string) {
    const found = token.kind === 'end' ? 'the end' : `"${token.text.slice(0, 32)}"`
    super(`at ${token.at}, ${found}: ${what}`)
  }
}

class Parser<R> {
  readonly #tokens: readonly Token[]
  readonly #fields: FieldTable<R>
  #next = 0
  #depth = 0

  constructor(tokens: readonly Token[], fields: FieldTable<R>) {
    this.#tokens = tokens
    this.#fields = fields
  }

  whole(): AccessFilter<R> {
    const filter = this.#either()
    if (this.#peek().kind !== 'end') throw new Wrong(this.#peek(), 'expected &&, || or the end')
    return filter
  }

  #either(): AccessFilter<R> {
    if (++this.#depth > DEEPEST) throw new Wrong(this.#peek(), 'too many parentheses in another')
    const parts = [this.#both()]
    while (this.#accept('||')) parts.push(this.#both())
    this.#depth -= 1
    const [only] = parts
    return parts.length === 1 && only ? only : (record) => parts.some((part) => part(record))
  }

  #both(): AccessFilter<R> {
    const parts = [this.#one()]
    while (this.#accept('&&')) parts.push(this.#one())
    const [only] = parts
    return parts.length === 1 && only ? only : (record) => parts.every((part) => part(record))
  }

  #one(): AccessFilter<R> {
    let isDenied = false
    while (this.#accept('!')) isDenied = !isDenied
    const claim = this.#claim()
    return isDenied ? (record) => !claim(record) : claim
  }

  #claim(): AccessFilter<R> {
    if (this.#accept('(')) {
      const inner = this.#either()
      this.#expect(')')
      return inner
    }
    const name = this.#take('name', 'expected a field, has(FIELD), ! or (')
    if (name.text === 'has') return this.#has()
    const [, owner = '', method = ''] = /^(.*)\.(\w+)$/.exec(name.text) ?? []
    const test = Object.hasOwn(METHODS, method) ? METHODS[method] : undefined
    if (test !== undefined) return this.#call(test, { ...name, text: owner })
    const field = this.#fieldOf(name)
    return this.#accept('in') ? this.#oneOf(field) : this.#compared(field)
  }

  #has(): AccessFilter<R> {
    this.#expect('(')
    const field = this.#fieldOf(this.#take('name', 'expected a field'))
    this.#expect(')')
    return field.kind === 'text'
      ? (record) => field.read(record) !== ''
      : (record) => !Number.isNaN(field.read(record))
  }

  #call(test: (value: string, part: string) => boolean, name: Token): AccessFilter<R> {
    const field = this.#fieldOf(name)
    if (field.kind !== 'text') throw new Wrong(name, 'it is a number')
    this.#expect('(')
    const part = this.#take('text', 'expected a text in quotes').text
    this.#expect(')')
    return (record) => test(field.read(record), part)
  }

  #oneOf(field: Field<R>): AccessFilter<R> {
    this.#expect('[')
    const values = new Set([this.#literal(field)])
    while (this.#accept(',')) values.add(this.#literal(field))
    this.#expect(']')
    return (record) => values.has(field.read(record))
  }

  #compared(field: Field<R>): AccessFilter<R> {
    const sign = this.#peek()
    if (!LISTED.includes(sign.text) || sign.kind !== 'sign')
      throw new Wrong(sign, `expected ${LISTED.join(', ')} or in [...]`)
    this.#next += 1
    const value = this.#literal(field)
    if (sign.text === '==') return (record) => field.read(record) === value
    if (sign.text === '!=') {
      if (field.kind === 'text') return (record) => field.read(record) !== value
      return (record) => {
        const found = field.read(record)
        return !Number.isNaN(found) && found !== value
      }
    }
    if (field.kind === 'text' || typeof value === 'string')
      throw new Wrong(sign, 'texts are compared by == and != only')
    if (sign.text === '<') return (record) => field.read(record) < value
    if (sign.text === '<=') return (record) => field.read(record) <= value
    if (sign.text === '>') return (record) => field.read(record) > value
    return (record) => field.read(record) >= value
  }

  #literal({ kind }: Field<R>): string | number {
    if (kind === 'text') return this.#take('text', 'expected a text in quotes').text
    if (!this.#accept('duration')) return Number(this.#take('number', 'expected a number').text)
    this.#expect('(')
    const token = this.#take('text', 'expected a duration such as "100ms"')
    const [, count, unit = ''] = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(token.text) ?? []
    if (count === undefined) throw new Wrong(token, 'expected a duration such as "100ms" or "2s"')
    this.#expect(')')
    return Number(count) * (DURATION_UNITS[unit] ?? 1)
  }

  #peek(): Token {
    const token = this.#tokens[this.#next] ?? this.#tokens.at(-1)
    // tokensOf() ends every list with a token of its own.
    if (token === undefined) throw new Error('no token at all')
    return token
  }

  #accept(text: string): boolean {
    const token = this.#peek()
    if (token.kind === 'text' || token.text !== text || token.kind === 'end') return false
    this.#next += 1
    return true
  }

  #expect(sign: string): void {
    if (!this.#accept(sign)) throw new Wrong(this.#peek(), `expected ${sign}`)
  }

  #take(kind: TokenKind, otherwise: string): Token {
    const token = this.#peek()
    if (token.kind !== kind) throw new Wrong(token, otherwise)
    this.#next += 1
    return token
  }

  #fieldOf(name: Token): Field<R> {
    const field = Object.hasOwn(this.#fields, name.text) ? this.#fields[name.text] : undefined
    if (field === undefined)
      throw new Wrong(name, `is no field; there are ${Object.keys(this.#fields).join(', ')}`)
    return field
  }
}
