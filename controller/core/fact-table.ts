// SPDX-License-Identifier: Apache-2.0
// Facts by namespace and name, with the walk over one namespace that selectors need.

/** A two-level table. */
export class FactTable<T> {
  readonly #namespaces = new Map<string, Map<string, T>>()

  get(namespace: string, name: string): T | undefined {
    return this.#namespaces.get(namespace)?.get(name)
  }

  /** Sets or, with undefined, removes; gives what was there. */
  set(namespace: string, name: string, facts: T | undefined): T | undefined {
    const table = this.#namespaces.get(namespace)
    const previous = table?.get(name)
    if (facts === undefined) {
      table?.delete(name)
      if (table?.size === 0) this.#namespaces.delete(namespace)
    } else if (table === undefined) this.#namespaces.set(namespace, new Map([[name, facts]]))
    else table.set(name, facts)
    return previous
  }

  *in(namespace: string): Iterable<T> {
    const table = this.#namespaces.get(namespace)
    if (table !== undefined) yield* table.values()
  }

  *all(): Iterable<T> {
    for (const table of this.#namespaces.values()) yield* table.values()
  }
}
