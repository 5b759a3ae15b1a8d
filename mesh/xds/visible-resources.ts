// SPDX-License-Identifier: Apache-2.0
// The resources of one type as one client may see them. What is hidden from it is, to it, not there: not by name, not by alias, and not
// as something that has gone.

import type { ResourceStore, StoredResource } from './resource-store.ts'

/** What a client's view asks of a store. */
export type Resources = Pick<ResourceStore, 'all' | 'count' | 'get' | 'names' | 'resolve'>

/** Those of a store of which `sees` is true, whenever they are asked for. */
export class VisibleResources implements Resources {
  readonly #all: Resources
  readonly #sees: (name: string) => boolean

  constructor(all: Resources, sees: (name: string) => boolean) {
    this.#all = all
    this.#sees = sees
  }

  /** At the most. */
  get count(): number {
    return this.#all.count
  }

  get(name: string): StoredResource | undefined {
    const found = this.#all.get(name)
    return found !== undefined && this.#sees(name) ? found : undefined
  }

  *names(): Generator<string, void, undefined> {
    for (const name of this.#all.names()) if (this.#sees(name)) yield name
  }

  all(): readonly StoredResource[] {
    return this.#all.all().filter(({ name }) => this.#sees(name))
  }

  resolve(nameOrAlias: string): readonly string[] {
    return this.#all.resolve(nameOrAlias).filter(this.#sees)
  }
}
