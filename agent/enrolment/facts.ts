// SPDX-License-Identifier: Apache-2.0
// What is known of a pod, and how each fact that comes in changes it. Pure: a fact is what somebody saw (CNI, the
// informers, the data plane), knowledge is what follows from all of them, desired is what the pod is to be made.

import { parseIpAddress } from '../../mesh/model/address.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import type { Pod } from '../../mesh/kube/index.ts'
import { eligibility, type EligibilityOptions, type Labels } from './eligibility.ts'
import { isSameNetns, type NetnsIdentity } from './netns-identity.ts'

/** Where a pod's network is. */
export interface PodNetwork {
  readonly netnsPath: string
  readonly identity: NetnsIdentity
  readonly addresses: readonly IpAddress[]
  /** Of the sandbox, when CNI told us of it; undefined for what was found in /proc and has to be proved. */
  readonly containerId: string | undefined
  /** From a state file, or from its proof: what the namespace's cookie must turn out to be. */
  readonly expectedCookie?: bigint | undefined
  /** Found in /proc by this process, and proved to be the pod's; what an earlier agent had found is proved again. */
  readonly isProven?: boolean
}

/** Whether there is more than somebody's word that this is the pod's network: the runtime's call, or a proof. */
export const isTrusted = ({ containerId, isProven }: PodNetwork): boolean =>
  containerId !== undefined || isProven === true

export type Fact =
  /** The API's object of the pod, as the informer tells it. */
  | { readonly kind: 'object'; readonly object: Pod }
  /** The labels of the pod's namespace, new or changed. */
  | { readonly kind: 'namespaceLabels'; readonly labels: Labels }
  /** CNI ADD: the pod has a sandbox, its first or another. */
  | { readonly kind: 'sandbox'; readonly object: Pod; readonly network: PodNetwork }
  /** CNI DEL, or an ADD that failed: the runtime tears this sandbox down. Its namespace, where that could still be told. */
  | {
      readonly kind: 'sandboxGone'
      readonly containerId: string
      readonly identity?: NetnsIdentity | undefined
    }
  /** An earlier agent's state file. */
  | {
      readonly kind: 'remembered'
      readonly network: PodNetwork
      readonly isEnrolled: boolean
      /** When it left the mesh, if it has peers that may not know; in milliseconds since the epoch. */
      readonly leftAt?: number | undefined
    }
  /** Its namespace, as it was found or looked at again. */
  | { readonly kind: 'networkFound'; readonly network: PodNetwork }
  /** The path that led to this namespace leads to it no more, or the namespace turned out to be another's. */
  | { readonly kind: 'networkGone'; readonly identity: NetnsIdentity }
  /** The API says that the pod is gone. */
  | { readonly kind: 'deleted' }
  /** The worker that had the pod's listeners is no more, or they do not do any more: the pod has got another address family. */
  | { readonly kind: 'listenersLost' }
  /** The mesh leaves this node. */
  | { readonly kind: 'uninstalled' }

/** All that is known of a pod. */
export interface Knowledge {
  /** Undefined for a pod known only from its state file. */
  readonly object: Pod | undefined
  readonly namespaceLabels: Labels | undefined
  /** Undefined when it has to be looked for. */
  readonly network: PodNetwork | undefined
  /** The sandbox that CNI told of last; its network may have to be looked for again. */
  readonly containerId: string | undefined
  /** There is no sandbox, and none is to be looked for. */
  readonly isSandboxGone: boolean
  readonly isDeleted: boolean
  /** An earlier agent had enrolled it, and the API has not told of it yet. */
  readonly isUnconfirmed: boolean
  readonly isUninstalled: boolean
}

export const NOTHING_KNOWN: Knowledge = {
  object: undefined,
  namespaceLabels: undefined,
  network: undefined,
  containerId: undefined,
  isSandboxGone: false,
  isDeleted: false,
  isUnconfirmed: false,
  isUninstalled: false,
}

/** What a pod is to be made. */
export type Desired =
  | {
      readonly kind: 'captured'
      /** Where; undefined as long as it is not known. */
      readonly netns: NetnsIdentity | undefined
      /** The pod is being deleted: others are to send nothing new over the connections they have into it. */
      readonly isDraining: boolean
    }
  /** `livesOn`: the pod goes on without the mesh, so its peers must hear of it first. */
  | { readonly kind: 'plain'; readonly reason: string; readonly livesOn: boolean }
  /** Not enough is known: it is to stay as it is. */
  | { readonly kind: 'unknown'; readonly reason: string }

/** Takes a fact in. */
export function learn(known: Knowledge, fact: Fact): Knowledge {
  switch (fact.kind) {
    case 'object':
      return { ...known, object: fact.object, isUnconfirmed: false }
    case 'namespaceLabels':
      return { ...known, namespaceLabels: fact.labels }
    case 'sandbox': {
      // Versions may not be compared for order, but an object that the informer told us outdoes one that was read.
      const object = known.object ?? fact.object
      const { network } = fact
      const { containerId } = network
      const isThere = { isSandboxGone: false, isUnconfirmed: false }
      return { ...known, object, network, containerId, ...isThere }
    }
    case 'sandboxGone':
      return isPresentSandbox(known, fact)
        ? { ...known, network: undefined, isSandboxGone: true }
        : known
    case 'remembered': {
      const { network, isEnrolled } = fact
      const { containerId } = network
      return { ...known, network, containerId, isUnconfirmed: isEnrolled }
    }
    case 'networkFound':
      return mayReplace(known, fact.network) ? { ...known, network: fact.network } : known
    case 'networkGone':
      return isSameNetns(known.network?.identity, fact.identity)
        ? { ...known, network: undefined }
        : known
    case 'deleted':
      return { ...known, isDeleted: true }
    case 'uninstalled':
      return { ...known, isUninstalled: true }
    case 'listenersLost':
      return known
  }
}

/**
 * What follows from all that is known. A pod whose object is gone (deletion by force) or says that it has finished (an
 * eviction) may run for all of its grace: it is what it was until its sandbox goes, or nothing leads to its namespace.
 */
export function desiredOf(known: Knowledge, rules: EligibilityOptions): Desired {
  const { object, network, isDeleted } = known
  const plain = (reason: string, livesOn: boolean): Desired => ({ kind: 'plain', reason, livesOn })
  const unknown = (reason: string): Desired =>
    isDeleted ? plain('the pod is deleted', false) : { kind: 'unknown', reason }
  if (known.isSandboxGone) return plain('the sandbox is gone', false)
  if (known.isUninstalled) return plain('the mesh is being uninstalled', true)
  if (isOver(known) && network === undefined)
    return plain(isDeleted ? 'the pod is deleted' : 'the pod has finished', false)
  const isDraining = isOver(known) || object?.metadata?.deletionTimestamp !== undefined
  const captured: Desired = { kind: 'captured', netns: network?.identity, isDraining }
  if (object === undefined)
    return known.isUnconfirmed ? captured : unknown('the Kubernetes API has not been listed yet')
  if (known.namespaceLabels === undefined)
    return unknown(`namespace ${object.metadata?.namespace ?? ''} is not known yet`)
  const decision = eligibility(object, known.namespaceLabels, rules)
  return decision.enrol ? captured : plain(decision.reason, true)
}

/** The API has no more of it, or says that it has finished: only its namespace keeps it, and has to be looked at. */
export function isOver({ object, isDeleted }: Knowledge): boolean {
  const phase = object?.status?.phase
  return isDeleted || phase === 'Succeeded' || phase === 'Failed'
}

/** The addresses the pod's status lists; CNI's are better, but not there for pods older than the agent. */
export function statusAddresses(pod: Pod | undefined): readonly IpAddress[] {
  const listed = pod?.status?.podIPs?.map(({ ip }) => ip) ?? [pod?.status?.podIP]
  return listed.flatMap((text) => {
    const address = text === undefined ? undefined : parseIpAddress(text)
    return address === undefined ? [] : [address]
  })
}

/**
 * Runtimes delete old sandboxes of a pod late, when the pod is long in its next one. What was found in /proc has no
 * container id: the namespace tells, and where none can be told the pod is left where it was found.
 */
function isPresentSandbox(
  { network, containerId }: Knowledge,
  gone: Extract<Fact, { readonly kind: 'sandboxGone' }>,
): boolean {
  if (network === undefined) return containerId === gone.containerId
  if (network.containerId !== undefined) return network.containerId === gone.containerId
  return isSameNetns(network.identity, gone.identity)
}

/** CNI may have told of a sandbox while somebody looked for one, and knows better. */
function mayReplace({ network, isSandboxGone }: Knowledge, found: PodNetwork): boolean {
  if (isSandboxGone) return false
  return network === undefined || isSameNetns(network.identity, found.identity)
}
