// SPDX-License-Identifier: Apache-2.0
// What patterns said of texts, remembered: RE2 in JavaScript takes some 4 us for a path, and most requests ask for the same few. One
// memory for a whole process, so that neither the number of routes nor what clients send decides how much is held.

/** Characters held at most, and with them so many bytes: a text of the wire is one byte a character. */
const MOST_CHARACTERS = 4 << 20
/** Longer texts are not worth their room: whoever sends them sends others the next time. */
const LONGEST_TEXT = 512
/** What a verdict takes besides the text, in characters: entries of two maps. */
const VERDICT_COST = 64

export class PatternMemory {
  readonly #mostCharacters: number
  /** Of each text, what each pattern (by number) said of it. */
  readonly #verdicts = new Map<string, Map<number, boolean>>()
  #held = 0
  #patterns = 0

  constructor(mostCharacters = MOST_CHARACTERS) {
    this.#mostCharacters = mostCharacters
  }

  /** Characters held now. */
  get held(): number {
    return this.#held
  }

  /** The number of another pattern. */
  nextPattern(): number {
    this.#patterns += 1
    return this.#patterns
  }

  /** What a pattern says of a text, asked of it once. Hot: once a request and regular expression. */
  recall(pattern: number, text: string, ask: (text: string) => boolean): boolean {
    if (text.length > LONGEST_TEXT) return ask(text)
    const known = this.#verdicts.get(text)
    const verdict = known?.get(pattern)
    if (verdict !== undefined) return verdict
    const found = ask(text)
    this.#keep(pattern, text, found, known)
    return found
  }

  #keep(
    pattern: number,
    text: string,
    verdict: boolean,
    known: Map<number, boolean> | undefined,
  ): void {
    const cost = VERDICT_COST + (known === undefined ? text.length : 0)
    // All at once: to know which one is the oldest would cost every hit, and the few that matter are back after one request each.
    if (this.#held + cost > this.#mostCharacters) {
      this.#verdicts.clear()
      this.#held = 0
      known = undefined
    }
    if (known === undefined) {
      known = new Map()
      this.#verdicts.set(text, known)
    }
    known.set(pattern, verdict)
    this.#held += cost
  }
}
