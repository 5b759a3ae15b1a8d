// SPDX-License-Identifier: Apache-2.0
// What policies concern each pod of this agent, as far as it is known: kept until one of them changes, or the list that the pod's workload
// names. What asking costs does not grow with the policies of others. Does no I/O.

import type { MeshState } from '../../../mesh/model/mesh-state.ts'
import { MultiIndex } from '../../../mesh/model/multi-index.ts'
import {
  isSamePorts,
  type NamedPort,
  type NetworkPolicy,
} from '../../../mesh/model/network-policy.ts'
import type { IpAddress, MeshChange, PodUid, Workload } from '../../../mesh/model/types.ts'
import type { LocalPod } from '../local-pod.ts'
import { podNetwork, type TouchedNetwork, touchedNetworkPolicies } from './pod-network-policies.ts'
import type { CompileLimits } from './policy-compiler.ts'
import {
  type PolicyGap,
  type PolicyLayer,
  PolicyLayers,
  touchedPolicies,
  wideLayers,
} from './policy-layers.ts'

/** The NetworkPolicies that select a pod. */
export interface PodNetwork {
  readonly policies: readonly NetworkPolicy[]
  /** What is missing of them: it closes the pod's own calls as well. */
  readonly gap: PodGap | undefined
  readonly namedPorts: readonly NamedPort[]
}

/**
 * What keeps a pod closed: a policy that there is none of, that nobody has told yet which there are, or that what was told of it cannot
 * be read.
 */
export type PodGap = PolicyGap | UnknownPolicies | UnreadableWorkload

interface UnknownPolicies {
  readonly kind: 'unknown'
  readonly key: undefined
  readonly message: string
}

interface UnreadableWorkload {
  readonly kind: 'unreadable'
  readonly key: undefined
  readonly message: string
}

/** What was said last of a workload: as it could be read last, and what is wrong with what came since. */
export interface LastSaid {
  readonly workload: Workload | undefined
  readonly unreadable: string | undefined
}

type SaidOfWorkload = Extract<MeshChange, { readonly kind: 'workload' | 'workloadUnreadable' }>

const UNKNOWN = {
  kind: 'unknown',
  key: undefined,
  message: 'policies of the pod are not known yet',
} as const

export interface PodPolicies {
  /** What is known of them; all that there is where there is no gap. Most are empty. */
  readonly layers: readonly PolicyLayer[]
  readonly gap: PodGap | undefined
  readonly network: PodNetwork
  /** When somebody first met the gap, or what was being compiled, by the clock of whoever asks. */
  gapMetAtMs: number | undefined
}

export type ConcernedPod = Pick<LocalPod, 'uid' | 'namespace' | 'workloadUid' | 'addresses'>

const NO_PEERS: ReadonlySet<IpAddress> = new Set()

/** What has changed: all that policies say of these pods, or what they say of calls from and to these addresses. */
export interface PolicyNews {
  readonly pods: readonly PodUid[]
  readonly peers: ReadonlySet<IpAddress>
}

interface Followed {
  readonly pod: ConcernedPod
  /** What its workload says, as was last heard: a workload that discovery drops before its pod is gone keeps its policies. */
  said: Workload | undefined
  /** What is wrong with what was said of it last. */
  unreadable: string | undefined
  policies: PodPolicies | undefined
  /** Of the policies that were last found. */
  gapMetAtMs: number | undefined
}

export class PoliciesOfPods {
  readonly #mesh: MeshState
  readonly #layers: PolicyLayers
  readonly #pods = new Map<PodUid, Followed>()
  readonly #unsubscribe: () => void

  /** `onChange` is told whose policies may say something else now. */
  constructor(
    mesh: MeshState,
    onChange: (news: PolicyNews) => void = () => undefined,
    limits?: CompileLimits,
  ) {
    this.#mesh = mesh
    this.#layers = new PolicyLayers(
      mesh.policies,
      (layer) => onChange({ pods: this.#concernedBy(layer), peers: NO_PEERS }),
      limits,
    )
    this.#unsubscribe = mesh.subscribe((changes) => {
      const pods = this.#apply(changes)
      const peers = mesh.movedAddresses
      if (pods.length > 0 || peers.size > 0) onChange({ pods, peers })
    })
  }

  close(): void {
    this.#unsubscribe()
  }

  /** Remembers from now on what is heard of the pod's policies; `before` is what was, where the mesh state does not know it any more. */
  follow(pod: ConcernedPod, before?: LastSaid): void {
    const known = this.#pods.get(pod.uid)
    // It has another sandbox, of whose predecessor connections may be open yet: what was said of that one need not be about this one.
    if (known !== undefined && !isSameList(known.pod.addresses, pod.addresses))
      this.#pods.delete(pod.uid)
    if (!this.#pods.has(pod.uid)) this.#followed(pod, before)
  }

  forget(uid: PodUid): void {
    this.#pods.delete(uid)
  }

  /** Begins to compile what takes a while; who calls meanwhile waits for it. */
  prepare(uid: PodUid): void {
    const followed = this.#pods.get(uid)
    if (followed !== undefined) for (const layer of this.of(followed.pod).layers) layer.prepare()
  }

  /** What was heard last of the pod's workload: discovery may have dropped it since, or be telling of another pod of its name. */
  lastSaid(pod: ConcernedPod): Workload | undefined {
    return this.#followed(pod).said
  }

  /** Hot: once per call. */
  of(pod: ConcernedPod): PodPolicies {
    const followed = this.#followed(pod)
    return (followed.policies ??= this.#find(followed))
  }

  #concernedBy(layer: PolicyLayer): readonly PodUid[] {
    const concerned: PodUid[] = []
    for (const [uid, { policies }] of this.#pods)
      if (policies?.layers.includes(layer) === true) concerned.push(uid)
    return concerned
  }

  #followed(pod: ConcernedPod, before?: LastSaid): Followed {
    let followed = this.#pods.get(pod.uid)
    if (followed === undefined) {
      followed = {
        pod,
        said: undefined,
        unreadable: undefined,
        policies: undefined,
        gapMetAtMs: undefined,
      }
      this.#pods.set(pod.uid, followed)
      const uid = pod.workloadUid
      const workload = this.#mesh.workload(uid)
      const unreadable = this.#mesh.unreadableWorkload(uid)
      const isKnown = workload !== undefined || unreadable !== undefined
      const said = isKnown || before === undefined ? { workload, unreadable } : before
      if (said.workload !== undefined) hear(followed, { kind: 'workload', workload: said.workload })
      followed.unreadable = said.unreadable
    }
    return followed
  }

  #find(followed: Followed): PodPolicies {
    const { pod, said, unreadable } = followed
    const isUnknown = said === undefined || this.#mesh.policies.knowledge === 'unknown'
    const wide = wideLayers(this.#layers, pod.namespace)
    const layers =
      said === undefined ? wide : [...wide, this.#layers.named(said.authorizationPolicies)]
    const garbled = unreadable === undefined ? undefined : unreadableWorkload(pod, unreadable)
    const known = podNetwork(this.#mesh, pod.namespace, said)
    const network = garbled === undefined ? known : { ...known, gap: garbled }
    const gaps = [...layers, known].flatMap(({ gap }) => gap ?? [])
    const gap =
      gaps.find(({ kind }) => kind === 'unreadable') ??
      garbled ??
      (isUnknown ? UNKNOWN : undefined) ??
      gaps[0]
    return {
      layers,
      gap,
      network,
      // A change that leaves it closed does not make those wait anew who call it.
      gapMetAtMs: gap === undefined ? undefined : followed.gapMetAtMs,
    }
  }

  #apply(changes: readonly MeshChange[]): readonly PodUid[] {
    const touched = touchedPolicies(changes, this.#mesh.policies)
    const touchedNetwork = touchedNetworkPolicies(changes)
    if (touched.keys.size > 0) this.#layers.touch(touched)
    // From the changes, not from what they come to: what is said of a workload counts, also if the same batch drops it.
    const heard = new MultiIndex<string, SaidOfWorkload>()
    let isAnything = false
    for (const change of changes)
      if (change.kind === 'workload') heard.add(change.workload.uid, change)
      else if (change.kind === 'workloadUnreadable') heard.add(change.uid, change)
      else if (change.kind === 'policyKnowledge') isAnything = true
    const concerned: PodUid[] = []
    for (const [uid, followed] of this.#pods) {
      let isRenamed = false
      for (const said of heard.get(followed.pod.workloadUid))
        isRenamed = hear(followed, said) || isRenamed
      const { policies } = followed
      const isTouched =
        (policies?.layers.some(({ isStale }) => isStale) ?? touched.keys.size > 0) ||
        isNamedBy(followed, touchedNetwork)
      if (!isTouched && !isRenamed && !isAnything) continue
      if (policies !== undefined)
        followed.gapMetAtMs = policies.gap === undefined ? undefined : policies.gapMetAtMs
      followed.policies = undefined
      concerned.push(uid)
    }
    return concerned
  }
}

/** Takes what is said of the workload, if it is about this pod; says whether it is something else than before. */
function hear(followed: Followed, news: SaidOfWorkload): boolean {
  const { said, unreadable } = followed
  if (news.kind === 'workloadUnreadable') {
    followed.unreadable = news.reason
    return unreadable !== news.reason
  }
  const { workload } = news
  if (!isAbout(workload, followed.pod)) return false
  followed.unreadable = undefined
  followed.said = workload
  return (
    unreadable !== undefined ||
    said === undefined ||
    !isSameList(said.authorizationPolicies, workload.authorizationPolicies) ||
    !isSameList(said.networkPolicies, workload.networkPolicies) ||
    !isSamePorts(said.namedPorts, workload.namedPorts)
  )
}

/** Whether the pod is selected by one of these, or may be: of which nobody has said anything yet. */
function isNamedBy({ said, pod }: Followed, { keys, namespaces }: TouchedNetwork): boolean {
  if (keys.size === 0) return false
  return said === undefined
    ? namespaces.has(pod.namespace)
    : said.networkPolicies.some((key) => keys.has(key))
}

function unreadableWorkload({ workloadUid }: ConcernedPod, reason: string): UnreadableWorkload {
  return {
    kind: 'unreadable',
    key: undefined,
    message: `what policies the pod names cannot be read: workload ${workloadUid}: ${reason}`,
  }
}

/**
 * A workload is called by its pod's name, which a StatefulSet gives again: what is still said of the former pod of the name, at another
 * address, is not said of this one.
 */
function isAbout({ addresses }: Workload, pod: ConcernedPod): boolean {
  return addresses.some((address) => pod.addresses.includes(address))
}

function isSameList(before: readonly string[], now: readonly string[]): boolean {
  if (before === now) return true
  return before.length === now.length && before.every((key, index) => key === now[index])
}
