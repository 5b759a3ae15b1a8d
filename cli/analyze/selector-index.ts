// SPDX-License-Identifier: Apache-2.0
// Finds what selects given labels without asking everything that selects: selectors of an area that name the same labels are of one shape,
// there are few shapes, and in each the labels' own values are a key.

import { entry } from './entry.ts'

type Labels = ReadonlyMap<string, string>

interface Shape<T> {
  readonly keys: readonly string[]
  readonly items: Map<string, T[]>
}

export class SelectorIndex<T> {
  readonly #areas = new Map<string, Map<string, Shape<T>>>()

  /** Files an item. An empty selector selects everything in its area. */
  add(area: string, selector: Labels, item: T): void {
    const keys = [...selector.keys()].sort()
    const shapes = entry(this.#areas, area, () => new Map<string, Shape<T>>())
    const shape = entry(shapes, keys.join('\n'), () => ({ keys, items: new Map<string, T[]>() }))
    entry(shape.items, valuesKey(selector, keys) ?? '', () => [] as T[]).push(item)
  }

  /** What selects these labels in the area, list by list. */
  *selecting(area: string, labels: Labels): Generator<readonly T[]> {
    for (const { keys, items } of this.#areas.get(area)?.values() ?? []) {
      const key = valuesKey(labels, keys)
      const found = key === undefined ? undefined : items.get(key)
      if (found !== undefined) yield found
    }
  }
}

/** Neither labels nor their values have line breaks: different values are different texts. */
function valuesKey(labels: Labels, keys: readonly string[]): string | undefined {
  let text = ''
  for (const key of keys) {
    const value = labels.get(key)
    if (value === undefined) return undefined
    text += `${value}\n`
  }
  return text
}
