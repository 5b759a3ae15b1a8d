// SPDX-License-Identifier: Apache-2.0
// A table as data: what a command shows is computed, and printed by somebody else.

export interface Table {
  readonly heading: readonly string[]
  readonly rows: readonly (readonly string[])[]
}

/** Compares by the first of these texts that differ. */
export function byTexts<T>(texts: (value: T) => readonly string[]): (one: T, other: T) => number {
  return (one, other) => {
    const theirs = texts(other)
    for (const [at, text] of texts(one).entries()) {
      const order = text < (theirs[at] ?? '') ? -1 : text > (theirs[at] ?? '') ? 1 : 0
      if (order !== 0) return order
    }
    return 0
  }
}
