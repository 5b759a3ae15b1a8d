// SPDX-License-Identifier: Apache-2.0
// The values that rules name, numbered, and found again by what a call is.

import type { Sliced } from '../async/sliced.ts'
import type { StringMatch } from '../model/policy.ts'
import type { CallFacts } from './call-facts.ts'
import type { FieldTest } from './field-test.ts'
import { keepSome, RangeTable, taken, TextTable } from './value-tables.ts'

/** What of a call tests ask about; in the order of their places here they have numbers. */
export const ASKS = [
  'principal',
  'account',
  'source',
  'namespace',
  'destination',
  'port',
] as const satisfies readonly FieldTest['asks'][]

/** Texts, and that there is one at all: presence is a value of its own here. */
class Texts {
  readonly table = new TextTable<number>()
  present: number | undefined

  take(value: StringMatch, next: () => number): number {
    return value.kind === 'present' ? (this.present ??= next()) : this.table.take(value, next)
  }

  collect(text: string, into: number[]): void {
    if (this.present !== undefined && text !== '') into.push(this.present)
    this.table.collect(text, into)
  }
}

/** Numbers values from 0. Filled first, then sealed, then read. */
export class ValueIds {
  readonly #principals = new Texts()
  readonly #namespaces = new Texts()
  readonly #sources = new RangeTable<number>()
  readonly #destinations = new RangeTable<number>()
  readonly #accounts = new Map<string, number>()
  readonly #ports = new Map<number, number>()
  /** Of each value what it is of: an index of ASKS. */
  readonly #asks: number[] = []
  #ask = 0
  readonly #next = (): number => this.#asks.push(this.#ask) - 1

  get count(): number {
    return this.#asks.length
  }

  /** What of a call the value is of: an index of ASKS. */
  askOf(id: number): number {
    return this.#asks[id] ?? 0
  }

  /** Adds the numbers of a field's values; each is a new one or one that another field gave to the same value. */
  name(test: FieldTest, into: number[]): void {
    const next = this.#next
    this.#ask = ASKS.indexOf(test.asks)
    switch (test.asks) {
      case 'principal':
      case 'namespace': {
        const texts = test.asks === 'principal' ? this.#principals : this.#namespaces
        for (const value of test.values) into.push(texts.take(value, next))
        return
      }
      case 'account':
        for (const value of test.values) into.push(taken(this.#accounts, value, next))
        return
      case 'source':
      case 'destination': {
        const table = test.asks === 'source' ? this.#sources : this.#destinations
        for (const value of test.values) into.push(table.take(value, next))
        return
      }
      case 'port':
        for (const value of test.values) into.push(taken(this.#ports, value, next))
    }
  }

  /** Forgets the values that are not to be kept, and makes the others ready to be found. */
  *seal(isKept: (id: number) => boolean): Sliced<void> {
    yield* this.#principals.table.seal(isKept)
    yield* this.#namespaces.table.seal(isKept)
    yield* this.#sources.seal(isKept)
    yield* this.#destinations.seal(isKept)
    yield* keepSome(this.#accounts, isKept)
    yield* keepSome(this.#ports, isKept)
  }

  /** Adds the numbers of all values that a call meets. Hot: once or twice per call. */
  find(facts: CallFacts, into: number[]): void {
    // Without an identity there is nothing to compare, as in match.ts.
    if (facts.principal !== '') this.#principals.collect(facts.principal, into)
    this.#namespaces.collect(facts.namespace, into)
    const account = this.#accounts.size > 0 ? this.#accounts.get(facts.account) : undefined
    if (account !== undefined) into.push(account)
    this.#sources.collect(facts.source, into)
    this.#destinations.collect(facts.destination, into)
    const port = this.#ports.get(facts.port)
    if (port !== undefined) into.push(port)
  }
}

/** Whether all values of a field rule something out, so that a rule can be filed under them. */
export function isTelling(test: FieldTest): boolean {
  if (test.isNegated) return false
  switch (test.asks) {
    case 'principal':
    case 'namespace':
      return test.values.every((value) => value.kind !== 'present' && value.text !== '')
    case 'source':
    case 'destination':
      return test.values.every(({ length }) => length > 0)
    case 'account':
    case 'port':
      return true
  }
}
