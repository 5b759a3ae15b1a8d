// SPDX-License-Identifier: Apache-2.0
// The resources of one type that a discovery server offers, encoded once for all who will receive them. A version is a
// hash of the content: every replica, and the same one after a restart, gives an unchanged resource the same version,
// so that a reconnecting client is sent only what really changed.

import { hash } from 'node:crypto'

/**
 * Bytes of the digest kept: 96 bits make a clash between two states of one resource unthinkable, also for whoever can
 * choose what is in them (the labels of a pod).
 */
const VERSION_BYTES = 12

const NONE: readonly never[] = []

/** A resource as the owner of the store gives it. */
export interface ResourceInput {
  readonly name: string
  /** Other names under which clients may ask for it. */
  readonly aliases: readonly string[]
  /** The encoded message. */
  readonly payload: Uint8Array
}

export interface StoredResource {
  readonly name: string
  /** Its aliases, a line each: nearly always one, for which a list would be a waste. */
  readonly aliasLines: string
  readonly version: string
  /**
   * The encoded message, a byte a character: there is one for each pod of the cluster, and a typed array takes 200 bytes
   * beside its content.
   */
  readonly payload: string
}

/** The other names of a resource. */
export function aliasesOf({ aliasLines }: StoredResource): readonly string[] {
  return aliasLines === '' ? NONE : aliasLines.split('\n')
}

/** The resources of one type by name and alias. */
export class ResourceStore {
  readonly #resources = new Map<string, StoredResource>()
  /** Nearly always one: then it takes no set. */
  readonly #namesByAlias = new Map<string, string | Set<string>>()
  #bytes = 0
  /** Made when somebody asks for everything. */
  #all: readonly StoredResource[] | undefined

  get(name: string): StoredResource | undefined {
    return this.#resources.get(name)
  }

  get count(): number {
    return this.#resources.size
  }

  /** Of all payloads together. */
  get bytes(): number {
    return this.#bytes
  }

  names(): Iterable<string> {
    return this.#resources.keys()
  }

  /** All of them: the same list until one changes. */
  all(): readonly StoredResource[] {
    this.#all ??= [...this.#resources.values()]
    return this.#all
  }

  /** Name and version of each. */
  *versions(): Generator<readonly [string, string]> {
    for (const { name, version } of this.#resources.values()) yield [name, version]
  }

  /** The resources a client means by this name: the one that bears it, or those that have it as an alias. */
  resolve(nameOrAlias: string): readonly string[] {
    if (this.#resources.has(nameOrAlias)) return [nameOrAlias]
    const names = this.#namesByAlias.get(nameOrAlias)
    if (names === undefined) return []
    return typeof names === 'string' ? [names] : [...names]
  }

  /** Stores the resource; false when it is what is there already. */
  set(input: ResourceInput): boolean {
    const previous = this.#resources.get(input.name)
    const next = encode(input)
    if (previous?.version === next.version) return false
    this.#all = undefined
    this.#dropAliases(previous)
    this.#resources.set(input.name, next)
    this.#bytes += next.payload.length - (previous?.payload.length ?? 0)
    for (const alias of aliasesOf(next)) {
      const names = this.#namesByAlias.get(alias)
      if (names === undefined) this.#namesByAlias.set(alias, input.name)
      else if (typeof names !== 'string') names.add(input.name)
      else if (names !== input.name) this.#namesByAlias.set(alias, new Set([names, input.name]))
    }
    return true
  }

  /** Removes the resource and gives what was there. */
  delete(name: string): StoredResource | undefined {
    const previous = this.#resources.get(name)
    this.#all = undefined
    this.#dropAliases(previous)
    this.#resources.delete(name)
    this.#bytes -= previous?.payload.length ?? 0
    return previous
  }

  #dropAliases(resource: StoredResource | undefined): void {
    if (resource === undefined) return
    for (const alias of aliasesOf(resource)) {
      const names = this.#namesByAlias.get(alias)
      if (names === resource.name) this.#namesByAlias.delete(alias)
      if (typeof names === 'string' || names?.delete(resource.name) !== true) continue
      const [last] = names
      // So a set has two members or more.
      if (names.size === 1 && last !== undefined) this.#namesByAlias.set(alias, last)
    }
  }
}

function encode({ name, aliases, payload }: ResourceInput): StoredResource {
  const aliasLines = aliases.join('\n')
  const digest = hash('sha256', Buffer.concat([Buffer.from(`${aliasLines}\n`), payload]), 'buffer')
  const version = digest.toString('base64url', 0, VERSION_BYTES)
  const text = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString(
    'latin1',
  )
  return { name, aliasLines, version, payload: text }
}
