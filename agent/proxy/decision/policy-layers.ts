// SPDX-License-Identifier: Apache-2.0
// Policies, compiled by whom they concern: those of the whole mesh once, those of a namespace once, those that workloads name once for each
// list of names. What concerns a pod is three of these layers, so that pods share what they have in common, and a change compiles anew
// only what it is part of. Pure.

import type { Policy, PolicyKey } from '../../../mesh/model/policy.ts'
import { type PolicyIndex, WHOLE_MESH } from '../../../mesh/model/policy-index.ts'
import type { MeshChange } from '../../../mesh/model/types.ts'
import type { PolicySet } from '../../../mesh/policy/evaluate.ts'
import { type CompileLimits, PolicyCompiler } from './policy-compiler.ts'

/** A policy that is to be enforced, and nobody can say what it demands. */
export interface PolicyGap {
  readonly kind: 'missing' | 'unreadable'
  readonly key: PolicyKey
  readonly message: string
  /** The object, as `kind namespace/name`, where it is known. */
  readonly madeOf?: string
}

/** Policies that take a while to compile, or none. */
export type LayerSet = PolicySet | 'compiling' | undefined

/** Some policies of a layer, compiled when they are first asked. */
class CompiledPart {
  readonly compiler: PolicyCompiler
  readonly #policies: readonly Policy[]
  readonly #onReady: () => void
  #set: LayerSet

  /** @param onReady Called when what was not compiled yet may be asked again. */
  constructor(policies: readonly Policy[], compiler: PolicyCompiler, onReady: () => void) {
    this.#policies = policies
    this.compiler = compiler
    this.#onReady = onReady
  }

  get set(): LayerSet {
    if (this.#policies.length === 0) return undefined
    return (this.#set ??=
      this.compiler.compile(this.#policies, () => this.#askAgain()) ?? 'compiling')
  }

  get isLong(): boolean {
    return this.compiler.isLong(this.#policies)
  }

  #askAgain(): void {
    const isAwaited = this.#set === 'compiling'
    this.#set = undefined
    if (isAwaited) this.#onReady()
  }
}

/** Some policies, compiled when they are first asked. */
export class PolicyLayer {
  readonly keys: ReadonlySet<string>
  /** The same, in order. */
  readonly ordered: readonly string[]
  readonly gap: PolicyGap | undefined
  /** Whether there are AUDIT policies in it. */
  readonly hasAudit: boolean
  /** A policy of it has changed since. */
  isStale = false
  readonly #inForce: CompiledPart
  readonly #onTrial: CompiledPart

  /** @param before The layer in whose place it comes: what was compiled of that serves. */
  constructor(
    keys: readonly string[],
    policies: readonly Policy[],
    gap: PolicyGap | undefined,
    before: PolicyLayer | undefined,
    onReady: (layer: PolicyLayer) => void,
    limits: CompileLimits | undefined,
  ) {
    this.ordered = keys
    this.keys = before?.ordered === keys ? before.keys : new Set(keys)
    this.gap = gap
    this.hasAudit = policies.some(({ isAudit }) => isAudit)
    const isOnTrial = ({ isDryRun, isAudit }: Policy): boolean => isDryRun && !isAudit
    const part = (of: readonly Policy[], known: CompiledPart | undefined): CompiledPart =>
      new CompiledPart(of, known?.compiler ?? new PolicyCompiler(limits), () => onReady(this))
    this.#inForce = part(
      policies.filter((policy) => !isOnTrial(policy)),
      before === undefined ? undefined : before.#inForce,
    )
    this.#onTrial = part(
      policies.filter(isOnTrial).map(inForce),
      before === undefined ? undefined : before.#onTrial,
    )
  }

  /** Undefined where there is nothing to enforce and nothing to put on record. */
  get set(): LayerSet {
    return this.#inForce.set
  }

  /** Those on trial, as if they were in force. */
  get trial(): LayerSet {
    return this.#onTrial.set
  }

  /** Begins with what takes a while before anybody asks. */
  prepare(): void {
    for (const part of [this.#inForce, this.#onTrial]) if (part.isLong) void part.set
  }
}

/** One object for each policy, by which it is known again. */
const tried = new WeakMap<Policy, Policy>()

function inForce(policy: Policy): Policy {
  const known = tried.get(policy)
  if (known !== undefined) return known
  const enforced = { ...policy, isDryRun: false }
  tried.set(policy, enforced)
  return enforced
}

/** What a batch of changes touches. */
export interface TouchedPolicies {
  readonly keys: ReadonlySet<PolicyKey>
  /** Where there is a policy, now, that may have concerned others before. */
  readonly places: ReadonlySet<string>
}

/** Names in one order, the same everywhere, so that the same call is refused with the same reason. */
interface NameList {
  readonly ordered: readonly string[]
  /** By which equal lists are known. */
  readonly name: string
}

/** Lists of names that no workload has any more are forgotten at this number: far more than there are pods on a node. */
const MOST_LISTS = 2_000

export class PolicyLayers {
  readonly #policies: PolicyIndex
  readonly #onReady: (layer: PolicyLayer) => void
  readonly #limits: CompileLimits | undefined
  readonly #wide = new Map<string, PolicyLayer>()
  readonly #named = new Map<string, PolicyLayer>()
  /** By their names. */
  readonly #lists = new Map<string, NameList>()
  /** By the lists that workloads have, which never change: each pod asks by its own at every change of a policy. */
  readonly #known = new WeakMap<readonly string[], NameList>()

  /** @param onReady Told of a layer that was being compiled when it was asked, and is no more. */
  constructor(
    policies: PolicyIndex,
    onReady: (layer: PolicyLayer) => void,
    limits: CompileLimits | undefined,
  ) {
    this.#policies = policies
    this.#limits = limits
    this.#onReady = onReady
  }

  /** Of everybody in the namespace, or with WHOLE_MESH in the mesh. */
  wide(place: string): PolicyLayer {
    return current(this.#wide, place, (before) => this.#layer(this.#policies.wide(place), before))
  }

  /** Of those that name exactly these. */
  named(keys: readonly string[]): PolicyLayer {
    if (this.#named.size > MOST_LISTS) {
      this.#named.clear()
      this.#lists.clear()
    }
    const { ordered, name } = this.#listOf(keys)
    return current(this.#named, name, (before) => this.#layer(ordered, before))
  }

  /** Marks what has to be compiled anew. */
  touch({ keys, places }: TouchedPolicies): void {
    for (const place of places) markStale(this.#wide.get(place))
    for (const layers of [this.#wide, this.#named])
      for (const layer of layers.values())
        if (!layer.keys.isDisjointFrom(keys)) layer.isStale = true
  }

  #listOf(keys: readonly string[]): NameList {
    let list = this.#known.get(keys)
    if (list === undefined) {
      const ordered = [...new Set(keys)].sort()
      const name = ordered.join('\n')
      // Pods that have it in common share it.
      list = this.#lists.get(name) ?? { ordered, name }
      this.#lists.set(name, list)
      this.#known.set(keys, list)
    }
    return list
  }

  #layer(keys: readonly string[], before: PolicyLayer | undefined): PolicyLayer {
    const policies: Policy[] = []
    let gap: PolicyGap | undefined
    for (const key of keys) {
      const policy = this.#policies.get(key as PolicyKey)
      if (policy !== undefined) policies.push(policy)
      // One that cannot be read will not be by waiting for it: it is named first.
      else if (gap === undefined || this.#policies.unreadable(key as PolicyKey) !== undefined)
        gap = this.#gap(key as PolicyKey)
    }
    return new PolicyLayer(keys, policies, gap, before, this.#onReady, this.#limits)
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

function current(
  layers: Map<string, PolicyLayer>,
  key: string,
  make: (before: PolicyLayer | undefined) => PolicyLayer,
): PolicyLayer {
  let layer = layers.get(key)
  if (layer === undefined || layer.isStale) {
    layer = make(layer)
    layers.set(key, layer)
  }
  return layer
}

function markStale(layer: PolicyLayer | undefined): void {
  if (layer !== undefined) layer.isStale = true
}
