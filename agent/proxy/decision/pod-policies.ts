// SPDX-License-Identifier: Apache-2.0
// What policies concern each pod of this agent, as far as it is known: kept until one of them changes, or the list that the pod's workload
// names. What asking costs does not grow with the policies of others. Does no I/O.

import type { MeshState } from '../../../mesh/model/mesh-state.ts'
import { MultiIndex } from '../../../mesh/model/multi-index.ts'
import type { MeshChange, PodUid, Workload } from '../../../mesh/model/types.ts'
import type { LocalPod } from '../local-pod.ts'
import {
  type PolicyGap,
  type PolicyLayer,
  PolicyLayers,
  touchedPolicies,
  wideLayers,
} from './policy-layers.ts'

/** What keeps a pod closed: a policy that there is none of, or that nobody has told yet which there are. */
export type PodGap = PolicyGap | typeof UNKNOWN

const UNKNOWN = {
  kind: 'unknown',
  key: undefined,
  message: 'policies of the pod are not known yet',
} as const

export interface PodPolicies {
  /** What is known of them; all that there is where there is no gap. Most are empty. */
  readonly layers: readonly PolicyLayer[]
  readonly gap: PodGap | undefined
  /** When somebody first met the gap, by the clock of whoever asks. */
  gapMetAtMs: number | undefined
}

export type ConcernedPod = Pick<LocalPod, 'uid' | 'namespace' | 'workloadUid' | 'addresses'>

interface Followed {
  readonly pod: ConcernedPod
  /** The policies that its workload names, as was last heard: a workload that discovery drops before its pod is gone keeps them. */
  named: readonly string[] | undefined
  policies: PodPolicies | undefined
  /** Of the policies that were last found. */
  gapMetAtMs: number | undefined
}

export class PoliciesOfPods {
  readonly #mesh: MeshState
  readonly #layers: PolicyLayers
  readonly #pods = new Map<PodUid, Followed>()
  readonly #unsubscribe: () => void

  /** `onChange` is told of the pods whose policies may say something else now. */
  constructor(mesh: MeshState, onChange: (pods: readonly PodUid[]) => void = () => undefined) {
    this.#mesh = mesh
    this.#layers = new PolicyLayers(mesh.policies)
    this.#unsubscribe = mesh.subscribe((changes) => {
      const pods = this.#apply(changes)
      if (pods.length > 0) onChange(pods)
    })
  }

  close(): void {
    this.#unsubscribe()
  }

  /** Remembers from now on what is heard of the pod's policies. */
  follow(pod: ConcernedPod): void {
    this.#followed(pod)
  }

  forget(uid: PodUid): void {
    this.#pods.delete(uid)
  }

  /** Hot: once per call. */
  of(pod: ConcernedPod): PodPolicies {
    const followed = this.#followed(pod)
    return (followed.policies ??= this.#find(followed))
  }

  #followed(pod: ConcernedPod): Followed {
    let followed = this.#pods.get(pod.uid)
    if (followed === undefined) {
      followed = { pod, named: undefined, policies: undefined, gapMetAtMs: undefined }
      this.#pods.set(pod.uid, followed)
      hear(followed, this.#mesh.workload(pod.workloadUid))
    }
    return followed
  }

  #find(followed: Followed): PodPolicies {
    const { pod, named } = followed
    const isUnknown = named === undefined || this.#mesh.policies.knowledge === 'unknown'
    const wide = wideLayers(this.#layers, pod.namespace)
    const layers = named === undefined ? wide : [...wide, this.#layers.named(named)]
    const gaps = layers.flatMap(({ gap }) => gap ?? [])
    const gap =
      gaps.find(({ kind }) => kind === 'unreadable') ?? (isUnknown ? UNKNOWN : undefined) ?? gaps[0]
    return {
      layers,
      gap,
      // A change that leaves it closed does not make those wait anew who call it.
      gapMetAtMs: gap === undefined ? undefined : followed.gapMetAtMs,
    }
  }

  #apply(changes: readonly MeshChange[]): readonly PodUid[] {
    const touched = touchedPolicies(changes, this.#mesh.policies)
    if (touched.keys.size > 0) this.#layers.touch(touched)
    // From the changes, not from what they come to: what is said of a workload counts, also if the same batch drops it.
    const heard = new MultiIndex<string, Workload>()
    let isAnything = false
    for (const change of changes)
      if (change.kind === 'workload') heard.add(change.workload.uid, change.workload)
      else if (change.kind === 'policyKnowledge') isAnything = true
    const concerned: PodUid[] = []
    for (const [uid, followed] of this.#pods) {
      let isRenamed = false
      for (const workload of heard.get(followed.pod.workloadUid))
        isRenamed = hear(followed, workload) || isRenamed
      const { policies } = followed
      const isTouched = policies?.layers.some(({ isStale }) => isStale) ?? touched.keys.size > 0
      if (!isTouched && !isRenamed && !isAnything) continue
      if (policies !== undefined) followed.gapMetAtMs = policies.gapMetAtMs
      followed.policies = undefined
      concerned.push(uid)
    }
    return concerned
  }
}

/** Takes the workload's list, if it is about this pod; says whether it is another than before. */
function hear(followed: Followed, workload: Workload | undefined): boolean {
  if (workload === undefined || !isAbout(workload, followed.pod)) return false
  const { authorizationPolicies } = workload
  if (isSameList(followed.named, authorizationPolicies)) return false
  followed.named = authorizationPolicies
  return true
}

/**
 * A workload is called by its pod's name, which a StatefulSet gives again: what is still said of the former pod of the name, at another
 * address, is not said of this one.
 */
function isAbout({ addresses }: Workload, pod: ConcernedPod): boolean {
  return addresses.some((address) => pod.addresses.includes(address))
}

function isSameList(before: readonly string[] | undefined, now: readonly string[]): boolean {
  if (before === now) return true
  return before?.length === now.length && before.every((key, index) => key === now[index])
}
