// SPDX-License-Identifier: Apache-2.0
// Keys in the order of their text, by where they belong. Asked often, changed now and then: the order is made when it is asked for.

/** Of one place. */
interface Members {
  /** As they were when they were put in order, then those that came since. */
  keys: Set<string>
  /** Undefined since a key came or went. */
  ordered: readonly string[] | undefined
}

const NONE: readonly never[] = []

export class OrderedKeys<K extends string> {
  readonly #places = new Map<string, Members>()

  /** The same array until a key of the place comes or goes; it never changes. */
  get(place: string): readonly K[] {
    const members = this.#places.get(place)
    if (members === undefined) return NONE
    if (members.ordered === undefined) {
      // Most are in order already, which makes it short.
      members.ordered = [...members.keys].sort()
      members.keys = new Set(members.ordered)
    }
    // What add() took are keys.
    return members.ordered as readonly K[]
  }

  add(place: string, key: K): void {
    const members = this.#places.get(place)
    if (members === undefined) this.#places.set(place, { keys: new Set([key]), ordered: undefined })
    else if (!members.keys.has(key)) {
      members.keys.add(key)
      members.ordered = undefined
    }
  }

  remove(place: string, key: K): void {
    const members = this.#places.get(place)
    if (members?.keys.delete(key) !== true) return
    members.ordered = undefined
    if (members.keys.size === 0) this.#places.delete(place)
  }
}
