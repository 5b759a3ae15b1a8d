// SPDX-License-Identifier: Apache-2.0
// Rules that nothing tells apart which only few of them name: negations above all, of whose values most calls meet none, and values
// that thousands of rules share. Their alternatives (rule-slots.ts) fall into classes, by the common values that they exclude and
// require; a call rules out whole classes, however many rules are in them, 32 classes at a time (class-search.ts).

import type { Sliced } from '../async/sliced.ts'
import type { CompiledRule } from './field-test.ts'
import { crowd, RULES_A_STEP, sortedByValue } from './rule-filing.ts'
import { type Slot, slotsOf } from './rule-slots.ts'
import { ASKS, type ValueIds } from './value-ids.ts'

/** Lists of places of rules, each ascending: those of `key` are `places[starts[key]]` to `places[starts[key + 1]]`, exclusive. */
export interface PlaceLists {
  readonly starts: Int32Array
  readonly places: Int32Array
}

/**
 * What a value does in a slot: excludes it, or is one of those of which a call must have one. A slot may ask so twice of the same thing
 * (`from` and `when`); what it asks a third time is left to whoever asks the rule itself.
 */
export const USES = 3
const EXCLUDES = 0
export const PLANES = 1 + ASKS.length * (USES - 1)

/** A value in one of its uses. */
export function rowOf(id: number, use: number): number {
  return id * USES + use
}

/** Of a row: 0 for those that exclude, else one for each thing of a call and each time it is asked about. */
export function planeOf(row: number, ids: Pick<ValueIds, 'askOf'>): number {
  const use = row % USES
  return use === EXCLUDES ? 0 : 1 + ids.askOf(Math.floor(row / USES)) * (USES - 1) + use - 1
}

export interface RuleClasses {
  /** By class. */
  readonly lists: PlaceLists
  /** By class: whether its alternatives cannot be read whole, and so are never certain. */
  readonly isUnsure: Uint8Array
  /** Rules to be looked at wherever a call meets a value, by the value's number. */
  readonly loose: PlaceLists
  /** How many words hold a bit for each class. */
  readonly words: number
  /** By row: where in `bits` those of its classes begin; no row that no class has. */
  readonly offsets: ReadonlyMap<number, number>
  readonly bits: Int32Array
  /** By plane: bits of the classes that require something of it; undefined where none does. */
  readonly requiring: readonly (Int32Array | undefined)[]
}

/** @param places Of the rules that are to be in it; ascending. Values that they name get numbers. */
export function* classify(
  rules: readonly CompiledRule[],
  places: readonly number[],
  ids: ValueIds,
): Sliced<RuleClasses> {
  const slots = yield* nameSlots(rules, places, ids)
  const counts = new Int32Array(ids.count * USES)
  for (const row of slots.rows) counts[row] = (counts[row] ?? 0) + 1
  yield
  const many = crowd(slots.places.length)
  const looseOf: number[] = []
  const classOf: number[] = []
  const classes = new Classes(ids)
  for (const [slot, place] of slots.places.entries()) {
    if (slot % RULES_A_STEP === 0) yield
    const rows = slots.rows.slice(slots.starts[slot], slots.starts[slot + 1])
    const common = rows.filter((row) => (counts[row] ?? 0) >= many)
    const rare = rows.filter((row) => row % USES !== EXCLUDES && (counts[row] ?? 0) < many)
    for (const row of rare) looseOf.push(Math.floor(row / USES), place)
    const planes = new Set(common.map((row) => planeOf(row, ids)))
    // Where it requires only rare values of something, it is found by those.
    if (rare.every((row) => planes.has(planeOf(row, ids))))
      classOf.push(classes.of(common, slots.isUnsure[slot] === true), place)
  }
  return {
    lists: sortedByValue(classOf, classes.count),
    loose: sortedByValue(looseOf, ids.count),
    ...(yield* classes.seal()),
  }
}

interface NamedSlots {
  /** By slot, of its rule; ascending. */
  readonly places: number[]
  readonly isUnsure: boolean[]
  /** The rows of slot `slot` are `rows[starts[slot]]` to `rows[starts[slot + 1]]`, exclusive. */
  readonly starts: number[]
  readonly rows: number[]
}

function* nameSlots(
  rules: readonly CompiledRule[],
  places: readonly number[],
  ids: ValueIds,
): Sliced<NamedSlots> {
  const named: NamedSlots = { places: [], isUnsure: [], starts: [0], rows: [] }
  for (const [index, place] of places.entries()) {
    if (index % RULES_A_STEP === 0) yield
    for (const slot of slotsOf(rules[place] ?? [])) {
      named.places.push(place)
      named.isUnsure.push(slot.some(({ isPartlyUnread }) => isPartlyUnread))
      nameSlot(slot, ids, named.rows)
      named.starts.push(named.rows.length)
    }
  }
  return named
}

function nameSlot(slot: Slot, ids: ValueIds, rows: number[]): void {
  const uses = new Map<string, number>()
  const values: number[] = []
  for (const { tests } of slot)
    for (const test of tests) {
      const use = test.isNegated ? EXCLUDES : (uses.get(test.asks) ?? EXCLUDES) + 1
      if (use >= USES) continue
      if (!test.isNegated) uses.set(test.asks, use)
      values.length = 0
      ids.name(test, values)
      for (const id of values) rows.push(rowOf(id, use))
    }
}

/** Numbers classes by what they have in common. */
class Classes {
  readonly #ids: ValueIds
  readonly #numbers = new Map<string, number>()
  readonly #rows: (readonly number[])[] = []
  readonly #isUnsure: number[] = []

  constructor(ids: ValueIds) {
    this.#ids = ids
  }

  get count(): number {
    return this.#rows.length
  }

  of(rows: readonly number[], isUnsure: boolean): number {
    const sorted = [...new Set(rows)].sort((left, right) => left - right)
    const key = `${sorted.join()}${isUnsure ? '?' : ''}`
    const known = this.#numbers.get(key)
    if (known !== undefined) return known
    const number = this.#rows.push(sorted) - 1
    this.#isUnsure.push(isUnsure ? 1 : 0)
    this.#numbers.set(key, number)
    return number
  }

  *seal(): Sliced<Omit<RuleClasses, 'lists' | 'loose'>> {
    const words = Math.ceil(this.count / 32)
    const offsets = new Map<number, number>()
    for (const rows of this.#rows)
      for (const row of rows) if (!offsets.has(row)) offsets.set(row, offsets.size * words)
    const bits = new Int32Array(offsets.size * words)
    const requiring = Array.from({ length: PLANES }, (): Int32Array | undefined => undefined)
    for (const [number, rows] of this.#rows.entries()) {
      if (number % RULES_A_STEP === 0) yield
      for (const row of rows) {
        setBit(bits, offsets.get(row) ?? 0, number)
        const plane = planeOf(row, this.#ids)
        setBit((requiring[plane] ??= new Int32Array(words)), 0, number)
      }
    }
    return { isUnsure: Uint8Array.from(this.#isUnsure), words, offsets, bits, requiring }
  }
}

function setBit(words: Int32Array, offset: number, index: number): void {
  const word = offset + (index >>> 5)
  words[word] = (words[word] ?? 0) | (1 << index)
}
