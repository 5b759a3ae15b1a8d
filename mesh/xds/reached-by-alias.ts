// SPDX-License-Identifier: Apache-2.0
// The resources that a client was given because it asked by an alias, such as an address. It holds them by name from then on, so it
// must hear of their changes also when the alias is theirs no more. An entry lasts until the resource is gone or all the aliases
// that it was reached by are unsubscribed: there are never more aliases than the client asked for, nor names than there are resources.

export class ReachedByAlias {
  readonly #aliasesByName = new Map<string, Set<string>>()
  readonly #namesByAlias = new Map<string, Set<string>>()

  has(name: string): boolean {
    return this.#aliasesByName.has(name)
  }

  /** The client is given this resource for having asked by this alias. */
  add(alias: string, name: string): void {
    include(this.#aliasesByName, name, alias)
    include(this.#namesByAlias, alias, name)
  }

  /** The client was told that the resource is gone. */
  remove(name: string): void {
    for (const alias of this.#aliasesByName.get(name) ?? [])
      exclude(this.#namesByAlias, alias, name)
    this.#aliasesByName.delete(name)
  }

  /** The client wants nothing by this alias any more; or, when it is a name, nothing of that resource. */
  unsubscribe(aliasOrName: string): void {
    for (const name of this.#namesByAlias.get(aliasOrName) ?? [])
      exclude(this.#aliasesByName, name, aliasOrName)
    this.#namesByAlias.delete(aliasOrName)
    this.remove(aliasOrName)
  }
}

function include(sets: Map<string, Set<string>>, key: string, member: string): void {
  const set = sets.get(key)
  if (set === undefined) sets.set(key, new Set([member]))
  else set.add(member)
}

function exclude(sets: Map<string, Set<string>>, key: string, member: string): void {
  const set = sets.get(key)
  set?.delete(member)
  if (set?.size === 0) sets.delete(key)
}
