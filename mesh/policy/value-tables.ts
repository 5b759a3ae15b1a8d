// SPDX-License-Identifier: Apache-2.0
// Tables of the values that fields of matches name: which of them are true of a text, of an address.

import type { Sliced } from '../async/sliced.ts'
import { type AddressBits, compareBits, sharesBits } from './address-bits.ts'
import { NestedTable, type Nesting } from './nested-table.ts'

export interface RangeBits {
  /** Its bits after the first `length` are 0. */
  readonly base: AddressBits
  readonly length: number
}

/** A match that looks at the text, unlike presence. */
export interface TextMatch {
  readonly kind: 'exact' | 'prefix' | 'suffix'
  readonly text: string
}

const PREFIXES: Nesting<string, string> = {
  compare: compareTexts,
  compareProbe: compareTexts,
  isInside: (inner, outer) => inner.startsWith(outer),
  isAround: (prefix, text) => text.startsWith(prefix),
}

const SUFFIXES: Nesting<string, string> = {
  compare: compareFromEnd,
  compareProbe: compareFromEnd,
  isInside: (inner, outer) => inner.endsWith(outer),
  isAround: (suffix, text) => text.endsWith(suffix),
}

const RANGES: Nesting<RangeBits, AddressBits> = {
  compare: (left, right) => compareBits(left.base, right.base) || left.length - right.length,
  compareProbe: ({ base }, address) => compareBits(base, address),
  isInside: (inner, outer) =>
    inner.length >= outer.length && sharesBits(inner.base, outer.base, outer.length),
  isAround: ({ base, length }, address) => sharesBits(base, address, length),
}

/** By what texts are matched. Filled first, then sealed, then read. */
export class TextTable<Value> {
  readonly #exact = new Map<string, Value>()
  readonly #prefixes = new Map<string, Value>()
  readonly #suffixes = new Map<string, Value>()
  #sealed = {
    prefixes: NestedTable.empty<string, string, Value>(PREFIXES),
    suffixes: NestedTable.empty<string, string, Value>(SUFFIXES),
  }

  /** The value of a match, made when it has none yet. */
  take({ kind, text }: TextMatch, make: () => Value): Value {
    const texts = { exact: this.#exact, prefix: this.#prefixes, suffix: this.#suffixes }[kind]
    return taken(texts, text, make)
  }

  /** Drops what is not to be kept, and makes the rest ready to be read. */
  *seal(isKept: (value: Value) => boolean): Sliced<void> {
    yield* keepSome(this.#exact, isKept)
    yield* keepSome(this.#prefixes, isKept)
    yield* keepSome(this.#suffixes, isKept)
    this.#sealed = {
      prefixes: yield* NestedTable.make(PREFIXES, [...this.#prefixes]),
      suffixes: yield* NestedTable.make(SUFFIXES, [...this.#suffixes]),
    }
    this.#prefixes.clear()
    this.#suffixes.clear()
  }

  /** Adds the values of all matches that are true of a text. Hot: twice per call. */
  collect(text: string, into: Value[]): void {
    const exact = this.#exact.size > 0 ? this.#exact.get(text) : undefined
    if (exact !== undefined) into.push(exact)
    this.#sealed.prefixes.collect(text, into)
    this.#sealed.suffixes.collect(text, into)
  }

  /** Whether any match is true of a text. Hot. */
  has(text: string): boolean {
    return (
      this.#exact.has(text) || this.#sealed.prefixes.has(text) || this.#sealed.suffixes.has(text)
    )
  }
}

/** By ranges of addresses. Filled first, then sealed, then read. */
export class RangeTable<Value> {
  readonly #filled = new Map<string | number, readonly [RangeBits, Value]>()
  #sealed = NestedTable.empty<RangeBits, AddressBits, Value>(RANGES)

  take(range: RangeBits, make: () => Value): Value {
    const { isIpv4, a, b, c, d } = range.base
    const key = isIpv4 ? a * 64 + range.length : `${a}:${b}:${c}:${d}/${range.length}`
    return taken(this.#filled, key, () => [range, make()] as const)[1]
  }

  *seal(isKept: (value: Value) => boolean): Sliced<void> {
    yield* keepSome(this.#filled, ([, value]) => isKept(value))
    this.#sealed = yield* NestedTable.make(RANGES, [...this.#filled.values()])
    this.#filled.clear()
  }

  /** Adds the values of all ranges around an address. Hot: twice per call. */
  collect(address: AddressBits, into: Value[]): void {
    this.#sealed.collect(address, into)
  }

  has(address: AddressBits): boolean {
    return this.#sealed.has(address)
  }
}

/** The value of a key, made when it has none yet. */
export function taken<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  const known = map.get(key)
  if (known !== undefined) return known
  const value = make()
  map.set(key, value)
  return value
}

/** Drops what is not to be kept. */
export function* keepSome<Key, Value>(
  map: Map<Key, Value>,
  isKept: (value: Value) => boolean,
): Sliced<void> {
  let seen = 0
  for (const [key, value] of map) {
    if (!isKept(value)) map.delete(key)
    seen += 1
    if (seen % VALUES_A_STEP === 0) yield
  }
}

/** Between two breaks. */
const VALUES_A_STEP = 1_024

function compareTexts(left: string, right: string): number {
  if (left === right) return 0
  return left < right ? -1 : 1
}

/** As if both were read backwards. */
function compareFromEnd(left: string, right: string): number {
  const shorter = Math.min(left.length, right.length)
  for (let back = 1; back <= shorter; back += 1) {
    const difference = left.charCodeAt(left.length - back) - right.charCodeAt(right.length - back)
    if (difference !== 0) return difference
  }
  return left.length - right.length
}
