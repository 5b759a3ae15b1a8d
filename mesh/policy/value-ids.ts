// SPDX-License-Identifier: Apache-2.0
// The values that rules name, numbered, and found again by what a call is.

import type { CallFacts } from './call-facts.ts'
import type { FieldTest } from './field-test.ts'
import { RangeTable, taken, TextTable } from './value-tables.ts'

/** Numbers values from 0. Filled first, then sealed, then read. */
export class ValueIds {
  readonly #principals = new TextTable<number>()
  readonly #namespaces = new TextTable<number>()
  readonly #sources = new RangeTable<number>()
  readonly #destinations = new RangeTable<number>()
  #accounts = new Map<string, number>()
  #ports = new Map<number, number>()
  #count = 0
  readonly #next = (): number => this.#count++

  get count(): number {
    return this.#count
  }

  /** Adds the numbers of a field's values; each is a new one or one that another field gave to the same value. */
  name(test: FieldTest, into: number[]): void {
    const next = this.#next
    switch (test.asks) {
      case 'principal':
      case 'namespace': {
        const table = test.asks === 'principal' ? this.#principals : this.#namespaces
        for (const value of test.values)
          if (value.kind !== 'present') into.push(table.take(value, next))
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
  seal(isKept: (id: number) => boolean): void {
    for (const table of [this.#principals, this.#namespaces, this.#sources, this.#destinations])
      table.seal(isKept)
    this.#accounts = new Map([...this.#accounts].filter(([, id]) => isKept(id)))
    this.#ports = new Map([...this.#ports].filter(([, id]) => isKept(id)))
  }

  /** Adds the numbers of all values that a call meets. Hot: once or twice per call. */
  find(facts: CallFacts, into: number[]): void {
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
