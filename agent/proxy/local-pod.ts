// SPDX-License-Identifier: Apache-2.0
// A pod that this agent serves, as the data plane knows it: everything comes from enrolment (the CNI call or the
// node's own pod list), nothing from xDS, so a pod can talk before the control plane has heard of it.

import type { Socket } from 'node:net'
import { inTime } from '../../mesh/async/deadline.ts'
import { resetSocket } from '../../mesh/relay/reset-socket.ts'
import type { IpAddress, SpiffeId, WorkloadUid } from '../../mesh/model/types.ts'

export interface LocalPod {
  /** Kubernetes UID: the key. */
  readonly uid: string
  readonly namespace: string
  readonly name: string
  readonly serviceAccount: string
  /** What the pod proves to others. */
  readonly identity: SpiffeId
  /** Key of this pod in the mesh state, `<cluster>//Pod/<namespace>/<name>`. */
  readonly workloadUid: WorkloadUid
  readonly addresses: readonly IpAddress[]
  /** An open fd of the pod's network namespace, valid until the pod is removed. */
  readonly netnsFd: number
}

/** The pods of this agent, found by address: what makes a same-node call one. */
export class LocalPods {
  readonly #byUid = new Map<string, LocalPod>()
  readonly #byAddress = new Map<IpAddress, LocalPod>()
  /** Connections into a pod that another pod's proxy made, by the pod's UID. */
  readonly #visitors = new Map<string, Set<Socket>>()

  add(pod: LocalPod): void {
    this.remove(pod.uid)
    this.#byUid.set(pod.uid, pod)
    for (const address of pod.addresses) this.#byAddress.set(address, pod)
  }

  remove(uid: string): LocalPod | undefined {
    const pod = this.#byUid.get(uid)
    if (pod === undefined) return undefined
    this.#byUid.delete(uid)
    // An address may already belong to the pod's successor.
    for (const address of pod.addresses)
      if (this.#byAddress.get(address) === pod) this.#byAddress.delete(address)
    return pod
  }

  /** Remembers a connection into a pod, made through its namespace fd, until it closes. */
  visit(uid: string, socket: Socket): void {
    const visitors = this.#visitors.get(uid) ?? new Set()
    this.#visitors.set(uid, visitors)
    visitors.add(socket)
    socket.once('close', () => visitors.delete(socket))
  }

  /** Forgets a pod, lets the connections into it end until the deadline, and resets the rest. */
  async drain(uid: string, deadlineMs: number): Promise<void> {
    this.remove(uid)
    const visitors = this.#visitors.get(uid)
    // The pod may come back meanwhile: its new visitors are not these.
    this.#visitors.delete(uid)
    if (visitors === undefined) return
    const ended = [...visitors].map(
      (socket) => new Promise<void>((resolve) => socket.once('close', () => resolve())),
    )
    await inTime(Promise.all(ended), deadlineMs)
    for (const socket of visitors) resetSocket(socket)
  }

  get(uid: string): LocalPod | undefined {
    return this.#byUid.get(uid)
  }

  byAddress(address: IpAddress): LocalPod | undefined {
    return this.#byAddress.get(address)
  }

  all(): IterableIterator<LocalPod> {
    return this.#byUid.values()
  }
}
