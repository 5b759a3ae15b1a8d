// SPDX-License-Identifier: Apache-2.0
// Which classes of rules (rule-classes.ts) a call does not rule out.

import { planeOf, PLANES, type RuleClasses, rowOf, USES } from './rule-classes.ts'
import type { ValueIds } from './value-ids.ts'

const ALL = -1
const NONE = 0
const EXCLUDING = 0

/** Used again for the next call, so that one allocates nothing; and for one call at a time. */
export class ClassSearch {
  readonly #classes: RuleClasses
  readonly #ids: ValueIds
  /** By plane: offsets of the rows that the call meets. */
  readonly #met: readonly number[][] = Array.from({ length: PLANES }, () => [])
  /** Planes of which some class requires something. */
  readonly #required: readonly number[]

  constructor(classes: RuleClasses, ids: ValueIds) {
    this.#classes = classes
    this.#ids = ids
    this.#required = classes.requiring.flatMap((bits, plane) =>
      plane === EXCLUDING || bits === undefined ? [] : [plane],
    )
  }

  /** Adds the classes that values of a call leave. Hot: once per call and action. */
  collect(met: readonly number[], into: number[]): void {
    const { words, isUnsure } = this.#classes
    if (words === 0) return
    for (const rows of this.#met) rows.length = 0
    for (const id of met) for (let use = 0; use < USES; use += 1) this.#meet(rowOf(id, use))
    for (let word = 0; word < words; word += 1) {
      let left = ~this.#ruledOut(word)
      while (left !== NONE) {
        const lowest = left & -left
        left ^= lowest
        const number = word * 32 + 31 - Math.clz32(lowest)
        // Beyond the last one there are bits, and no classes.
        if (number < isUnsure.length) into.push(number)
      }
    }
  }

  #meet(row: number): void {
    const offset = this.#classes.offsets.get(row)
    if (offset !== undefined) this.#met[planeOf(row, this.#ids)]?.push(offset)
  }

  /** Bits of the classes of a word that the call rules out. */
  #ruledOut(word: number): number {
    let out = this.#laidOver(EXCLUDING, word)
    for (const plane of this.#required) {
      if (out === ALL) return out
      const asking = (this.#classes.requiring[plane]?.[word] ?? NONE) & ~out
      if (asking !== NONE) out |= asking & ~this.#laidOver(plane, word)
    }
    return out
  }

  /** All rows of a plane that the call meets, in one word. */
  #laidOver(plane: number, word: number): number {
    const { bits } = this.#classes
    let over = NONE
    for (const offset of this.#met[plane] ?? []) over |= bits[offset + word] ?? NONE
    return over
  }
}
