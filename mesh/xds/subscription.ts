// SPDX-License-Identifier: Apache-2.0
// One resource type as a client follows it: what it asks for, what it holds in which version, and who is told of changes.
// The stream it travels on may come and go; this stays.

import { create } from '@bufbuild/protobuf'
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  type Node,
} from '../proto/gen/discovery_pb.js'
import { formatResourceProblem, type ResourceProblem, type ResourceType } from './resource-type.ts'
import { type HeldResources, heldResources } from './digest.ts'
import { WILDCARD } from './protocol.ts'

/** google.rpc.Code INVALID_ARGUMENT: the response held something unusable. */
const CODE_INVALID_ARGUMENT = 3
/** Of names and versions in a request; a control plane reads requests whole, and of 16 MiB at the most. */
const MAX_VERSIONS_BYTES = 12 * 1024 * 1024
/** What protobuf adds to a name and a version, and more than that where a name is not ASCII. */
const ENTRY_BYTES = 8

/** A refusal names this many resources, to the server and in the log; the rest is counted. */
export const PROBLEMS_NAMED = 10

/** A resource that was sent and cannot be used. */
export interface RefusedResource {
  readonly name: string
  readonly problem: ResourceProblem
}

/** Told of what could be used of a response, and what could not: unless it is said otherwise of its type, that keeps its earlier state. */
export type ApplyResources<T> = (
  resources: readonly T[],
  removed: readonly string[],
  refused: readonly RefusedResource[],
) => void

/** What we say we hold of a resource that we could not use: no version of it is called so, and it is sent again, or its removal is. */
const UNUSABLE_VERSION = ''

/** What the client needs of a subscription, whatever its type. */
export interface FollowedType {
  readonly typeUrl: string
  readonly isSynced: boolean
  /** The control plane may not know the type: nothing waits for it. */
  readonly isOptional: boolean
  readonly held: HeldResources
  openingRequest(node: Node): DeltaDiscoveryRequest
  handle(response: DeltaDiscoveryResponse): {
    readonly reply: DeltaDiscoveryRequest
    readonly problems: readonly ResourceProblem[]
  }
}

/** The client's state of one subscribed type. */
export class Subscription<T> implements FollowedType {
  readonly #type: ResourceType<T>
  readonly #names: readonly string[]
  readonly #apply: ApplyResources<T>
  readonly #versions = new Map<string, string>()
  readonly #synced = Promise.withResolvers<void>()
  /** Resolves when the first response of this type has been applied. */
  readonly synced: Promise<void> = this.#synced.promise
  #isSynced = false
  readonly isOptional: boolean
  readonly #maxVersionsBytes: number
  /** The stream was opened without saying what is held: its first response is all there is. */
  #isToldAnew = false

  /** Asks for all resources of the type, or for these. Throws a RangeError for none: xDS takes that for all. */
  constructor(
    type: ResourceType<T>,
    names: '*' | readonly string[],
    apply: ApplyResources<T>,
    {
      isOptional = false,
      maxVersionsBytes = MAX_VERSIONS_BYTES,
    }: { readonly isOptional?: boolean; readonly maxVersionsBytes?: number } = {},
  ) {
    if (names.length === 0)
      throw new RangeError(`Cannot subscribe to ${type.typeUrl}: no names are given`)
    this.#type = type
    this.#names = names === WILDCARD ? [WILDCARD] : names
    this.#apply = apply
    this.isOptional = isOptional
    this.#maxVersionsBytes = maxVersionsBytes
  }

  get typeUrl(): string {
    return this.#type.typeUrl
  }

  /** Whether at least one response has been applied, on this stream or an earlier one. */
  get isSynced(): boolean {
    return this.#isSynced
  }

  /** What is held of it, in the versions that the control plane gave. */
  get held(): HeldResources {
    return heldResources(this.#versions)
  }

  /**
   * The first request of a stream: what is wanted, and what we still hold of it. Where that is more than a request may have, everything is
   * asked for anew, and what is not there any more is told from the first response.
   */
  openingRequest(node: Node): DeltaDiscoveryRequest {
    this.#isToldAnew = this.#names[0] === WILDCARD && this.#versionsBytes > this.#maxVersionsBytes
    return create(DeltaDiscoveryRequestSchema, {
      node,
      typeUrl: this.typeUrl,
      resourceNamesSubscribe: [...this.#names],
      initialResourceVersions: this.#isToldAnew ? {} : Object.fromEntries(this.#versions),
    })
  }

  get #versionsBytes(): number {
    let bytes = 0
    for (const [name, version] of this.#versions)
      bytes += name.length + version.length + ENTRY_BYTES
    return bytes
  }

  /** What the response takes away: also, where it is all there is, what is held and not in it. */
  #removedBy({ resources, removedResources }: DeltaDiscoveryResponse): readonly string[] {
    if (!this.#isToldAnew) return removedResources
    this.#isToldAnew = false
    const gone = new Set(this.#versions.keys())
    for (const { name } of resources) gone.delete(name)
    return [...gone.union(new Set(removedResources))]
  }

  /** Applies a response; gives the request that acknowledges it, and what was wrong with it. */
  handle(response: DeltaDiscoveryResponse): {
    readonly reply: DeltaDiscoveryRequest
    readonly problems: readonly ResourceProblem[]
  } {
    const refused: RefusedResource[] = []
    const resources: T[] = []
    const versions = new Map<string, string>()
    for (const { name, version, resource: payload } of response.resources) {
      if (payload?.typeUrl !== this.typeUrl) {
        const reason = `is of type "${payload?.typeUrl ?? ''}", not ${this.typeUrl}`
        refused.push({ name, problem: { resource: name, field: 'resource', reason } })
        continue
      }
      const decoded = this.#type.decode(name, payload.value)
      if (!decoded.ok) {
        refused.push({ name, problem: decoded.error })
        continue
      }
      resources.push(decoded.value)
      versions.set(name, version)
    }
    const removed = this.#removedBy(response)
    this.#apply(resources, removed, refused)
    for (const name of removed) this.#versions.delete(name)
    for (const { name } of refused) this.#versions.set(name, UNUSABLE_VERSION)
    for (const [name, version] of versions) this.#versions.set(name, version)
    if (!this.#isSynced) {
      this.#isSynced = true
      this.#synced.resolve()
    }
    const problems = refused.map(({ problem }) => problem)
    return { reply: this.#acknowledgement(response.nonce, problems), problems }
  }

  #acknowledgement(nonce: string, problems: readonly ResourceProblem[]): DeltaDiscoveryRequest {
    if (problems.length === 0)
      return create(DeltaDiscoveryRequestSchema, { typeUrl: this.typeUrl, responseNonce: nonce })
    const named = problems.slice(0, PROBLEMS_NAMED).map(formatResourceProblem)
    if (problems.length > named.length) named.push(`${problems.length - named.length} more`)
    return create(DeltaDiscoveryRequestSchema, {
      typeUrl: this.typeUrl,
      responseNonce: nonce,
      errorDetail: { code: CODE_INVALID_ARGUMENT, message: named.join('; ') },
    })
  }
}
