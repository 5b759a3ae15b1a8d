// SPDX-License-Identifier: Apache-2.0
// Policies, compiled by whom they concern: those of the whole mesh once, those of a namespace once, those that workloads name once for each
// list of names. What concerns a pod is three of these layers, so that pods share what they have in common, and a change compiles anew
// only what it is part of. Pure.

import type { Policy, PolicyKey } from '../../../mesh/model/policy.ts'
import { type PolicyIndex, WHOLE_MESH } from '../../../mesh/model/policy-index.ts'
import type { MeshChange } from '../../../mesh/model/types.ts'
import { PolicySet } from '../../../mesh/policy/evaluate.ts'

/** A policy that is to be enforced, and nobody can say what it demands. */
export interface PolicyGap {
  readonly kind: 'missing' | 'unreadable'
  readonly key: PolicyKey
  readonly message: string
}

/** Some policies, compiled when they are first asked. */
export class PolicyLayer {
  readonly keys: ReadonlySet<string>
  readonly gap: PolicyGap | undefined
  /** Whether there are AUDIT policies in it. */
  readonly hasAudit: boolean
  /** A policy of it has changed since. */
  isStale = false
  readonly #inForce: readonly Policy[]
  readonly #onTrial: readonly Policy[]
  #set: PolicySet | undefined
  #trial: PolicySet | undefined

  constructor(keys: readonly string[], policies: readonly Policy[], gap: PolicyGap | undefined) {
    this.keys = new Set(keys)
    this.gap = gap
    this.hasAudit = policies.some(({ isAudit }) => isAudit)
    this.#onTrial = policies.filter(({ isDryRun, isAudit }) => isDryRun && !isAudit)
    this.#inForce = policies.filter(({ isDryRun, isAudit }) => !isDryRun || isAudit)
  }

  /** Undefined where there is nothing to enforce and nothing to put on record. */
  get set(): PolicySet | undefined {
    if (this.#inForce.length === 0) return undefined
    return (this.#set ??= new PolicySet(this.#inForce))
  }

  /** Those on trial, as if they were in force. */
  get trial(): PolicySet | undefined {
    if (this.#onTrial.length === 0) return undefined
    return (this.#trial ??= new PolicySet(
      this.#onTrial.map((policy) => ({ ...policy, isDryRun: false })),
    ))
  }
}

/** What a batch of changes touches. */
export interface TouchedPolicies {
  readonly keys: ReadonlySet<PolicyKey>
  /** Where there is a policy, now, that may have concerned others before. */
  readonly places: ReadonlySet<string>
}

/** Lists of names that no workload has any more are forgotten at this number: far more than there are pods on a node. */
const MOST_LISTS = 2_000

export class PolicyLayers {
  readonly #policies: PolicyIndex
  readonly #wide = new Map<string, PolicyLayer>()
  readonly #named = new Map<string, PolicyLayer>()

  constructor(policies: PolicyIndex) {
    this.#policies = policies
  }

  /** Of everybody in the namespace, or with WHOLE_MESH in the mesh. */
  wide(place: string): PolicyLayer {
    return current(this.#wide, place, () => this.#layer(inOrder(this.#policies.wide(place))))
  }

  /** Of those that name exactly these. */
  named(keys: readonly string[]): PolicyLayer {
    if (this.#named.size > MOST_LISTS) this.#named.clear()
    const ordered = inOrder(keys)
    return current(this.#named, ordered.join('\n'), () => this.#layer(ordered))
  }

  /** Marks what has to be compiled anew. */
  touch({ keys, places }: TouchedPolicies): void {
    for (const place of places) markStale(this.#wide.get(place))
    for (const layers of [this.#wide, this.#named])
      for (const layer of layers.values())
        if (!layer.keys.isDisjointFrom(keys)) layer.isStale = true
  }

  #layer(keys: readonly string[]): PolicyLayer {
    const policies: Policy[] = []
    let gap: PolicyGap | undefined
    for (const key of keys) {
      const policy = this.#policies.get(key as PolicyKey)
      if (policy !== undefined) policies.push(policy)
      // One that cannot be read will not be by waiting for it: it is named first.
      else if (gap === undefined || this.#policies.unreadable(key as PolicyKey) !== undefined)
        gap = this.#gap(key as PolicyKey)
    }
    return new PolicyLayer(keys, policies, gap)
  }

  #gap(key: PolicyKey): PolicyGap {
    const unreadable = this.#policies.unreadable(key)
    return unreadable === undefined
      ? { kind: 'missing', key, message: `policy ${key} is named and has not arrived` }
      : { kind: 'unreadable', key, message: `policy ${key} cannot be read: ${unreadable.reason}` }
  }
}

/** What changes of the mesh touch, once they are made. */
export function touchedPolicies(
  changes: readonly MeshChange[],
  policies: PolicyIndex,
): TouchedPolicies {
  const keys = new Set<PolicyKey>()
  const places = new Set<string>()
  const touch = (key: PolicyKey): void => {
    keys.add(key)
    const known = policies.get(key) ?? policies.unreadable(key)
    const place = known && policies.placeOf(known)
    if (place !== undefined) places.add(place)
  }
  for (const change of changes)
    if (change.kind === 'policy' || change.kind === 'policyUnreadable') touch(change.policy.key)
    else if (change.kind === 'policyRemoved') touch(change.key)
  return { keys, places }
}

/** The layers that concern whoever is in the namespace. */
export function wideLayers(layers: PolicyLayers, namespace: string): readonly PolicyLayer[] {
  return [layers.wide(WHOLE_MESH), layers.wide(namespace)]
}

/** One order everywhere, so that the same call is refused with the same reason. */
function inOrder(keys: readonly string[]): readonly string[] {
  return [...new Set(keys)].sort()
}

function current(
  layers: Map<string, PolicyLayer>,
  key: string,
  make: () => PolicyLayer,
): PolicyLayer {
  let layer = layers.get(key)
  if (layer === undefined || layer.isStale) {
    layer = make()
    layers.set(key, layer)
  }
  return layer
}

function markStale(layer: PolicyLayer | undefined): void {
  if (layer !== undefined) layer.isStale = true
}
