// SPDX-License-Identifier: Apache-2.0
// The policies of the mesh by whom they concern, those that cannot be read among them: that nobody can say what they demand does not
// make them void. Fed by MeshState.

import { OrderedKeys } from './ordered-keys.ts'
import type { Policy, PolicyKey, PolicyScope } from './policy.ts'
import type { MeshChange } from './types.ts'

/**
 * What is known of policies: nothing; what an earlier agent of this node had in force and kept; or what the control plane has, all of it.
 */
export type PolicyKnowledge = 'unknown' | 'held' | 'current'

/** A policy of which nothing but its key can be used. */
export interface UnreadablePolicy {
  readonly key: PolicyKey
  /** What is wrong with it. */
  readonly reason: string
  /** Whom it concerned while it could be read; undefined when it never could: it is taken for as wide as it may be. */
  readonly scope: PolicyScope | undefined
}

/** Where policies concern everybody; no namespace is called so. */
export const WHOLE_MESH = '*'
export const DEFAULT_ROOT_NAMESPACE = 'istio-system'

export class PolicyIndex {
  readonly #rootNamespace: string
  readonly #policies = new Map<PolicyKey, Policy>()
  readonly #unreadable = new Map<PolicyKey, UnreadablePolicy>()
  /** Of both kinds, those that concern a whole namespace, or under WHOLE_MESH all. */
  readonly #wide = new OrderedKeys<PolicyKey>()
  knowledge: PolicyKnowledge = 'unknown'

  constructor(rootNamespace: string = DEFAULT_ROOT_NAMESPACE) {
    this.#rootNamespace = rootNamespace
  }

  get(key: PolicyKey): Policy | undefined {
    return this.#policies.get(key)
  }

  unreadable(key: PolicyKey): UnreadablePolicy | undefined {
    return this.#unreadable.get(key)
  }

  /** The policies that can be read. */
  [Symbol.iterator](): IterableIterator<Policy> {
    return this.#policies.values()
  }

  /** Those that cannot. */
  allUnreadable(): Iterable<UnreadablePolicy> {
    return this.#unreadable.values()
  }

  get size(): number {
    return this.#policies.size
  }

  /** The keys of those that concern every workload of the namespace (alone), or with WHOLE_MESH of the mesh, in order. */
  wide(place: string): readonly PolicyKey[] {
    return this.#wide.get(place)
  }

  /** Where the change, once it is made, concerns whoever is there: a namespace, WHOLE_MESH, or undefined for those that name it. */
  placeOf(policy: Policy | UnreadablePolicy): string | undefined {
    const scope = 'reason' in policy ? this.#scopeOf(policy) : policy.scope
    if (scope === 'workload') return undefined
    if (scope === 'mesh') return WHOLE_MESH
    return 'reason' in policy ? namespaceOf(policy.key) : policy.namespace
  }

  set(policy: Policy): void {
    const { key } = policy
    this.#file(key, policy)
    this.#unreadable.delete(key)
    this.#policies.set(key, policy)
  }

  remove(key: PolicyKey): void {
    const known = this.#policies.get(key) ?? this.#unreadable.get(key)
    if (known === undefined) return
    this.#file(key, undefined)
    this.#policies.delete(key)
    this.#unreadable.delete(key)
  }

  setUnreadable({ key, reason, scope }: UnreadablePolicy): void {
    const before = this.#policies.get(key) ?? this.#unreadable.get(key)
    const policy = { key, reason, scope: before?.scope ?? scope }
    this.#file(key, policy)
    this.#policies.delete(key)
    this.#unreadable.set(key, policy)
  }

  /** Changes that make an empty index equal to this one. */
  snapshot(): MeshChange[] {
    const changes: MeshChange[] = []
    for (const policy of this.#policies.values()) changes.push({ kind: 'policy', policy })
    for (const policy of this.#unreadable.values())
      changes.push({ kind: 'policyUnreadable', policy })
    if (this.knowledge !== 'unknown') changes.push({ kind: 'policyKnowledge', is: this.knowledge })
    return changes
  }

  /** Under the place of what comes instead of what is known; a change that leaves it in its place leaves the order as it is. */
  #file(key: PolicyKey, next: Policy | UnreadablePolicy | undefined): void {
    const known = this.#policies.get(key) ?? this.#unreadable.get(key)
    const from = known && this.placeOf(known)
    const to = next && this.placeOf(next)
    if (from === to) return
    if (from !== undefined) this.#wide.remove(from, key)
    if (to !== undefined) this.#wide.add(to, key)
  }

  /** The root namespace's policies may be the whole mesh's; and one of no namespace is not for us to call harmless. */
  #scopeOf({ key, scope }: UnreadablePolicy): PolicyScope {
    if (scope !== undefined) return scope
    const namespace = namespaceOf(key)
    return namespace === this.#rootNamespace || namespace === '' ? 'mesh' : 'namespace'
  }
}

function namespaceOf(key: PolicyKey): string {
  return key.slice(0, Math.max(0, key.indexOf('/')))
}
