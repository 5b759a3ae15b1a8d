// SPDX-License-Identifier: Apache-2.0
// The NetworkPolicies that a process knows, those that cannot be read among them: nobody can say what such a one allows, so it is not as if
// it were not there. Fed by MeshState.

import type { NetworkPolicy } from './network-policy.ts'
import type { PolicyKey } from './policy.ts'
import type { MeshChange } from './types.ts'

/** One of which nothing but its key can be used. */
export interface UnreadableNetworkPolicy {
  readonly key: PolicyKey
  /** What is wrong with it. */
  readonly reason: string
}

export class NetworkPolicyIndex {
  readonly #policies = new Map<PolicyKey, NetworkPolicy>()
  readonly #unreadable = new Map<PolicyKey, UnreadableNetworkPolicy>()
  /** How many of each namespace may be about egress. */
  readonly #egress = new Map<string, number>()

  get(key: PolicyKey): NetworkPolicy | undefined {
    return this.#policies.get(key)
  }

  unreadable(key: PolicyKey): UnreadableNetworkPolicy | undefined {
    return this.#unreadable.get(key)
  }

  /** Those that can be read. */
  [Symbol.iterator](): IterableIterator<NetworkPolicy> {
    return this.#policies.values()
  }

  /** Those that cannot. */
  allUnreadable(): Iterable<UnreadableNetworkPolicy> {
    return this.#unreadable.values()
  }

  /** Whether a pod of the namespace may be selected for egress: asked of pods of which nobody has said yet what selects them. */
  mayHoldBack(namespace: string): boolean {
    return this.#egress.has(namespace)
  }

  set(policy: NetworkPolicy): void {
    this.remove(policy.key)
    this.#policies.set(policy.key, policy)
    if (policy.egress !== undefined) this.#count(policy.key, 1)
  }

  setUnreadable(policy: UnreadableNetworkPolicy): void {
    this.remove(policy.key)
    this.#unreadable.set(policy.key, policy)
    this.#count(policy.key, 1)
  }

  remove(key: PolicyKey): void {
    const isAboutEgress = this.#unreadable.has(key) || this.#policies.get(key)?.egress !== undefined
    this.#policies.delete(key)
    this.#unreadable.delete(key)
    if (isAboutEgress) this.#count(key, -1)
  }

  /** Changes that make an empty index equal to this one. */
  snapshot(): MeshChange[] {
    return [
      ...[...this.#policies.values()].map((policy) => ({ kind: 'networkPolicy', policy }) as const),
      ...[...this.#unreadable.values()].map(
        (policy) => ({ kind: 'networkPolicyUnreadable', policy }) as const,
      ),
    ]
  }

  #count(key: PolicyKey, by: 1 | -1): void {
    const namespace = key.slice(0, Math.max(0, key.indexOf('/')))
    const count = (this.#egress.get(namespace) ?? 0) + by
    if (count > 0) this.#egress.set(namespace, count)
    else this.#egress.delete(namespace)
  }
}
