// SPDX-License-Identifier: Apache-2.0
// The resources of one type that a discovery server offers, encoded once for all who will receive them. A version is a
// hash of the content: every replica, and the same one after a restart, gives an unchanged resource the same version,
// so that a reconnecting client is sent only what really changed.

import { createHash } from 'node:crypto'
import { create, toBinary } from '@bufbuild/protobuf'
import { ResourceSchema } from '../proto/gen/discovery_pb.js'

/** Bytes of the digest kept: 96 bits make a clash between two states of one resource unthinkable. */
const VERSION_BYTES = 12

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
  readonly aliases: readonly string[]
  readonly version: string
  /** The encoded envoy.service.discovery.v3.Resource. */
  readonly encoded: Uint8Array
}

/** The resources of one type by name and alias. */
export class ResourceStore {
  readonly typeUrl: string
  readonly #resources = new Map<string, StoredResource>()
  readonly #namesByAlias = new Map<string, Set<string>>()

  constructor(typeUrl: string) {
    this.typeUrl = typeUrl
  }

  get(name: string): StoredResource | undefined {
    return this.#resources.get(name)
  }

  get size(): number {
    return this.#resources.size
  }

  names(): Iterable<string> {
    return this.#resources.keys()
  }

  /** The resources a client means by this name: the one that bears it, or those that have it as an alias. */
  resolve(nameOrAlias: string): readonly string[] {
    if (this.#resources.has(nameOrAlias)) return [nameOrAlias]
    return [...(this.#namesByAlias.get(nameOrAlias) ?? [])]
  }

  /** Stores the resource; false when it is what is there already. */
  set(input: ResourceInput): boolean {
    const previous = this.#resources.get(input.name)
    const next = encode(this.typeUrl, input)
    if (previous?.version === next.version) return false
    this.#dropAliases(previous)
    this.#resources.set(input.name, next)
    for (const alias of next.aliases) {
      const names = this.#namesByAlias.get(alias)
      if (names === undefined) this.#namesByAlias.set(alias, new Set([input.name]))
      else names.add(input.name)
    }
    return true
  }

  /** Removes the resource and gives what was there. */
  delete(name: string): StoredResource | undefined {
    const previous = this.#resources.get(name)
    this.#dropAliases(previous)
    this.#resources.delete(name)
    return previous
  }

  #dropAliases(resource: StoredResource | undefined): void {
    if (resource === undefined) return
    for (const alias of resource.aliases) {
      const names = this.#namesByAlias.get(alias)
      names?.delete(resource.name)
      if (names?.size === 0) this.#namesByAlias.delete(alias)
    }
  }
}

function encode(typeUrl: string, input: ResourceInput): StoredResource {
  const { name, aliases, payload } = input
  const digest = createHash('sha256').update(aliases.join('\n')).update('\n').update(payload)
  const version = digest.digest().subarray(0, VERSION_BYTES).toString('base64url')
  const encoded = toBinary(
    ResourceSchema,
    create(ResourceSchema, {
      name,
      version,
      aliases: [...aliases],
      resource: { typeUrl, value: payload },
    }),
  )
  return { name, aliases, version, encoded }
}
