// SPDX-License-Identifier: Apache-2.0
// Which service accounts run on which node: the question of node authorisation. Fed by a pod watch.

import type { Pod } from '../../mesh/kube/index.ts'

/** A pod as far as authorisation cares. */
export interface IndexedPod {
  readonly uid: string
  readonly namespace: string
  readonly name: string
  readonly serviceAccount: string
  readonly nodeName: string
  /** Not to be served for others: it has ended, or it uses the host's network and so is never in the mesh. */
  readonly isMeshable: boolean
}

/** Reads a pod; undefined while it is not scheduled. */
export function indexedPod(pod: Pod): IndexedPod | undefined {
  const { uid, namespace, name } = pod.metadata ?? {}
  const nodeName = pod.spec?.nodeName
  if (uid === undefined || namespace === undefined || name === undefined) return undefined
  if (nodeName === undefined || nodeName === '') return undefined
  const hasEnded = pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed'
  return {
    uid,
    namespace,
    name,
    serviceAccount: pod.spec?.serviceAccountName ?? 'default',
    nodeName,
    isMeshable: !hasEnded && pod.spec?.hostNetwork !== true,
  }
}

/** Pods by uid, and their service accounts by node. Keyed by uid, so that a reused name confuses nothing. */
export class PodIndex {
  readonly #byUid = new Map<string, IndexedPod>()
  /** namespace/name -> uid of the pod that has the name now. */
  readonly #uidByName = new Map<string, string>()
  /** node -> namespace/service-account -> uids. */
  readonly #accountsByNode = new Map<string, Map<string, Set<string>>>()

  /** Takes the present state of a pod. */
  upsert(pod: Pod): void {
    const uid = pod.metadata?.uid
    if (uid === undefined) return
    this.#drop(uid)
    const indexed = indexedPod(pod)
    if (indexed === undefined) return
    this.#byUid.set(uid, indexed)
    this.#uidByName.set(`${indexed.namespace}/${indexed.name}`, uid)
    if (!indexed.isMeshable) return
    const accounts = this.#accountsByNode.get(indexed.nodeName) ?? new Map<string, Set<string>>()
    this.#accountsByNode.set(indexed.nodeName, accounts)
    const account = `${indexed.namespace}/${indexed.serviceAccount}`
    const uids = accounts.get(account) ?? new Set<string>()
    accounts.set(account, uids)
    uids.add(uid)
  }

  /** Takes note that the pod of this name is gone. */
  remove(namespace: string, name: string): void {
    const uid = this.#uidByName.get(`${namespace}/${name}`)
    if (uid !== undefined) this.#drop(uid)
  }

  byUid(uid: string): IndexedPod | undefined {
    return this.#byUid.get(uid)
  }

  /** Whether a pod of the mesh with this service account runs on the node. */
  runsOn(nodeName: string, namespace: string, serviceAccount: string): boolean {
    return this.#accountsByNode.get(nodeName)?.has(`${namespace}/${serviceAccount}`) === true
  }

  #drop(uid: string): void {
    const known = this.#byUid.get(uid)
    if (known === undefined) return
    this.#byUid.delete(uid)
    const nameKey = `${known.namespace}/${known.name}`
    // A successor may have the name already.
    if (this.#uidByName.get(nameKey) === uid) this.#uidByName.delete(nameKey)
    const accounts = this.#accountsByNode.get(known.nodeName)
    const account = `${known.namespace}/${known.serviceAccount}`
    const uids = accounts?.get(account)
    uids?.delete(uid)
    if (uids?.size === 0) accounts?.delete(account)
    if (accounts?.size === 0) this.#accountsByNode.delete(known.nodeName)
  }
}
