// SPDX-License-Identifier: Apache-2.0
// The policies of waypoints by whose calls they judge, those that cannot be read among them: that nobody can say what they demand does
// not make them void. Fed by MeshState.

import { OrderedKeys } from './ordered-keys.ts'
import type { PolicyKey } from './policy.ts'
import { DEFAULT_ROOT_NAMESPACE } from './policy-index.ts'
import type { MeshChange } from './types.ts'
import type { PolicyTarget, WaypointPolicy } from './waypoint-policy.ts'

/** One of which nothing but its key can be used. */
export interface UnreadableWaypointPolicy {
  readonly key: PolicyKey
  /** What is wrong with it. */
  readonly reason: string
  /** Whose calls it judged while it could be read; undefined when it never could: it is taken for as wide as it may be. */
  readonly targets: readonly PolicyTarget[] | undefined
}

interface Named {
  readonly namespace: string
  readonly name: string
}

/** Where a call is judged: by which waypoint, and what was called. */
export interface JudgedPlace {
  readonly waypoint: Named
  readonly called: Named & { readonly kind: 'service' | 'workload' }
}

/** What judges the calls of a place, in the order of keys. */
export interface ConcerningPolicies {
  readonly policies: readonly WaypointPolicy[]
  /** While there are any, nobody can tell what may pass. */
  readonly unreadable: readonly UnreadableWaypointPolicy[]
}

export class WaypointPolicyIndex {
  readonly #rootNamespace: string
  readonly #policies = new Map<PolicyKey, WaypointPolicy>()
  readonly #unreadable = new Map<PolicyKey, UnreadableWaypointPolicy>()
  readonly #byTarget = new OrderedKeys<PolicyKey>()

  constructor(rootNamespace: string = DEFAULT_ROOT_NAMESPACE) {
    this.#rootNamespace = rootNamespace
  }

  /** Those that can be read. */
  [Symbol.iterator](): IterableIterator<WaypointPolicy> {
    return this.#policies.values()
  }

  /** Those that cannot. */
  allUnreadable(): Iterable<UnreadableWaypointPolicy> {
    return this.#unreadable.values()
  }

  /** What judges calls of this place. */
  concerning({ waypoint, called }: JudgedPlace): ConcerningPolicies {
    const targets: PolicyTarget[] = [
      { kind: 'waypoint', namespace: waypoint.namespace, name: waypoint.name },
      { kind: 'namespace', namespace: waypoint.namespace, name: '' },
      { kind: 'namespace', namespace: called.namespace, name: '' },
      { kind: 'mesh', namespace: '', name: '' },
    ]
    if (called.kind === 'service')
      targets.push({ kind: 'service', namespace: called.namespace, name: called.name })
    const keys = new Set(targets.flatMap((target) => this.#byTarget.get(targetKey(target))))
    const inOrder = [...keys].sort()
    return {
      policies: inOrder.flatMap((key) => this.#policies.get(key) ?? []),
      unreadable: inOrder.flatMap((key) => this.#unreadable.get(key) ?? []),
    }
  }

  set(policy: WaypointPolicy): void {
    this.remove(policy.key)
    this.#policies.set(policy.key, policy)
    this.#file(policy.key, policy.targets)
  }

  setUnreadable({ key, reason, targets }: UnreadableWaypointPolicy): void {
    const before = this.#targetsOf(key)
    this.remove(key)
    const policy = { key, reason, targets: before ?? targets }
    this.#unreadable.set(key, policy)
    this.#file(key, policy.targets ?? this.#widest(key))
  }

  remove(key: PolicyKey): void {
    if (!this.#policies.has(key) && !this.#unreadable.has(key)) return
    for (const target of this.#targetsOf(key) ?? this.#widest(key))
      this.#byTarget.remove(targetKey(target), key)
    this.#policies.delete(key)
    this.#unreadable.delete(key)
  }

  /** Changes that make an empty index equal to this one. */
  snapshot(): MeshChange[] {
    return [
      ...[...this.#policies.values()].map(
        (policy) => ({ kind: 'waypointPolicy', policy }) as const,
      ),
      ...[...this.#unreadable.values()].map(
        (policy) => ({ kind: 'waypointPolicyUnreadable', policy }) as const,
      ),
    ]
  }

  #targetsOf(key: PolicyKey): readonly PolicyTarget[] | undefined {
    return this.#policies.get(key)?.targets ?? this.#unreadable.get(key)?.targets
  }

  #file(key: PolicyKey, targets: readonly PolicyTarget[]): void {
    for (const target of targets) this.#byTarget.add(targetKey(target), key)
  }

  /** One of the root namespace may name a class of waypoints: these are everywhere. */
  #widest(key: PolicyKey): readonly PolicyTarget[] {
    const namespace = key.slice(0, Math.max(0, key.indexOf('/')))
    return namespace === this.#rootNamespace || namespace === ''
      ? [{ kind: 'mesh', namespace: '', name: '' }]
      : [{ kind: 'namespace', namespace, name: '' }]
  }
}

function targetKey({ kind, namespace, name }: PolicyTarget): string {
  return `${kind} ${namespace}/${name}`
}
