// SPDX-License-Identifier: Apache-2.0
// Equal texts and maps, once in memory. Pods of one ReplicaSet have the same labels and ports, run as the same account and
// belong to the same Services; a map takes some 200 bytes even when it is empty, and every object brings its own texts.

/** Past this many a pool starts afresh: sharing is only an economy, and labels come and go for ever. */
const POOL_LIMIT = 50_000
/** The same for what the maps say in all, in characters: anybody may write large ones. */
const POOL_TEXT_LIMIT = 8_000_000

/** A pool of texts. */
export class SharedTexts {
  readonly #texts = new Map<string, string>()

  /** The text, or an equal one that was here before. */
  share(text: string): string {
    const known = this.#texts.get(text)
    if (known !== undefined) return known
    if (this.#texts.size >= POOL_LIMIT) this.#texts.clear()
    this.#texts.set(text, text)
    return text
  }
}

/** A pool of lists of names that nobody changes. */
export class SharedLists {
  readonly #lists = new Map<string, readonly string[]>()

  /** The list, or an equal one that was here before. No name has a line break. */
  share(list: readonly string[]): readonly string[] {
    const content = list.join('\n')
    const known = this.#lists.get(content)
    if (known !== undefined) return known
    if (this.#lists.size >= POOL_LIMIT) this.#lists.clear()
    this.#lists.set(content, list)
    return list
  }
}

/** A pool of maps that nobody changes. */
export class SharedMaps<K extends string, V> {
  readonly #maps = new Map<string, ReadonlyMap<K, V>>()
  readonly #empty: ReadonlyMap<K, V> = new Map()
  #length = 0
  readonly #textOf: (value: V) => string

  /** @param textOf says all of a value, so that different values never say the same */
  constructor(textOf: (value: V) => string) {
    this.#textOf = textOf
  }

  /** The map, or an equal one that was here before. */
  share(map: ReadonlyMap<K, V>): ReadonlyMap<K, V> {
    if (map.size === 0) return this.#empty
    let content = ''
    map.forEach((value, key) => {
      const text = this.#textOf(value)
      // With their lengths no two lists of texts read alike, whatever an object has in them.
      content += `${key.length}:${key}${text.length}:${text}`
    })
    const known = this.#maps.get(content)
    if (known !== undefined) return known
    if (this.#maps.size >= POOL_LIMIT || this.#length >= POOL_TEXT_LIMIT) {
      this.#maps.clear()
      this.#length = 0
    }
    this.#maps.set(content, map)
    this.#length += content.length
    return map
  }
}
