// SPDX-License-Identifier: Apache-2.0
// One resource type as a client follows it: what it holds of it, in which version, and who is told of changes. The
// stream it travels on may come and go; this stays.

import { create } from '@bufbuild/protobuf'
import type { ResourceProblem } from '../model/convert.ts'
import { formatResourceProblem } from '../model/convert.ts'
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  type Node,
} from '../proto/gen/discovery_pb.js'
import { WILDCARD } from './type-urls.ts'

/** google.rpc.Code INVALID_ARGUMENT: the response held something unusable. */
const CODE_INVALID_ARGUMENT = 3
/** A refusal names this many resources; the rest is counted. */
const PROBLEMS_NAMED = 10

/** A resource as it arrived. */
export interface ReceivedResource {
  readonly name: string
  /** The encoded message of the subscription's type. */
  readonly payload: Uint8Array
}

/** Follows one resource type. */
export interface ResourceConsumer {
  readonly typeUrl: string
  /**
   * Applies what it can of a batch and returns why the rest cannot be used; a resource with a problem keeps its
   * earlier state. Must not throw.
   */
  apply(
    resources: readonly ReceivedResource[],
    removed: readonly string[],
  ): readonly ResourceProblem[]
}

/** The client's state of one subscribed type. */
export class Subscription {
  readonly #consumer: ResourceConsumer
  readonly #versions = new Map<string, string>()
  #isSynced = false

  constructor(consumer: ResourceConsumer) {
    this.#consumer = consumer
  }

  get typeUrl(): string {
    return this.#consumer.typeUrl
  }

  /** Whether at least one response has been applied, on this stream or an earlier one. */
  get isSynced(): boolean {
    return this.#isSynced
  }

  /** The first request of a stream: everything is wanted, and this is what we still hold. */
  openingRequest(node: Node): DeltaDiscoveryRequest {
    return create(DeltaDiscoveryRequestSchema, {
      node,
      typeUrl: this.typeUrl,
      resourceNamesSubscribe: [WILDCARD],
      initialResourceVersions: Object.fromEntries(this.#versions),
    })
  }

  /** Applies a response; gives the request that acknowledges it, and what was wrong with it. */
  handle(response: DeltaDiscoveryResponse): {
    readonly reply: DeltaDiscoveryRequest
    readonly problems: readonly ResourceProblem[]
  } {
    const problems: ResourceProblem[] = []
    const resources: ReceivedResource[] = []
    const versions = new Map<string, string>()
    for (const resource of response.resources) {
      const payload = resource.resource
      if (payload?.typeUrl !== this.typeUrl) {
        const reason = `is of type "${payload?.typeUrl ?? ''}", not ${this.typeUrl}`
        problems.push({ resource: resource.name, field: 'resource', reason })
        continue
      }
      resources.push({ name: resource.name, payload: payload.value })
      versions.set(resource.name, resource.version)
    }
    problems.push(...this.#consumer.apply(resources, response.removedResources))
    // A refused resource keeps its old version (or none), so that the next stream asks for it again.
    for (const problem of problems) versions.delete(problem.resource)
    for (const [name, version] of versions) this.#versions.set(name, version)
    for (const name of response.removedResources) this.#versions.delete(name)
    this.#isSynced = true
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
