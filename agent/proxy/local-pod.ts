// SPDX-License-Identifier: Apache-2.0
// A pod that this agent serves, as the data plane knows it: everything comes from enrolment (the CNI call or the
// node's own pod list), nothing from xDS, so a pod can talk before the control plane has heard of it.

import { familyOf, isLoopback } from '../../mesh/model/address.ts'
import type {
  IpAddress,
  PodUid,
  SocketAddress,
  SpiffeId,
  Workload,
  WorkloadUid,
} from '../../mesh/model/types.ts'
import type { OwnSource } from '../capture/types.ts'
import type { Party } from '../../mesh/telemetry/connection-record.ts'

export interface LocalPod {
  /** Kubernetes UID: the key. */
  readonly uid: PodUid
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
  /** Its place in the table of connection counts. */
  readonly seat: number
}

/** The pod as one end of a connection; its workload when discovery knows it, its identity when it was proven. */
export function podParty(
  { name, namespace, workloadUid }: LocalPod,
  workload: Workload | undefined,
  identity: SpiffeId | undefined,
): Party {
  return { name, namespace, uid: workloadUid, labels: workload, identity }
}

/**
 * The address the pod calls from: what the app bound its socket to, the pod's own or not (a balancer that calls as its clients do),
 * else the pod's of the target's family. The accepted socket cannot tell the latter: captured connections arrive over loopback.
 */
export function callerAddress(
  pod: LocalPod,
  target: SocketAddress,
  seen?: SocketAddress,
): IpAddress | undefined {
  const family = familyOf(target.address)
  if (
    seen !== undefined &&
    familyOf(seen.address) === family &&
    (!isLoopback(seen.address) || pod.addresses.includes(seen.address))
  )
    return seen.address
  return pod.addresses.find((address) => familyOf(address) === family)
}

/** What a socket of the agent's must be bound to, so that it calls from this address as the pod would; undefined: as routing chooses. */
export function sourceFor(pod: LocalPod, address: IpAddress, port = 0): OwnSource | undefined {
  const family = familyOf(address)
  const own = pod.addresses.filter((each) => familyOf(each) === family)
  if (port === 0 && own[0] === address) return undefined
  return { address, port, whose: own.includes(address) ? 'pod' : 'foreign' }
}

/** The pods of this agent, found by address: what makes a same-node call one. */
export class LocalPods {
  readonly #byUid = new Map<PodUid, LocalPod>()
  readonly #byAddress = new Map<IpAddress, LocalPod>()

  add(pod: LocalPod): void {
    this.remove(pod.uid)
    this.#byUid.set(pod.uid, pod)
    for (const address of pod.addresses) this.#byAddress.set(address, pod)
  }

  /** Forgets a pod: nobody finds it any more. */
  remove(uid: PodUid): void {
    const pod = this.#byUid.get(uid)
    if (pod === undefined) return
    this.#byUid.delete(uid)
    // An address may already belong to the pod's successor.
    for (const address of pod.addresses)
      if (this.#byAddress.get(address) === pod) this.#byAddress.delete(address)
  }

  byAddress(address: IpAddress): LocalPod | undefined {
    return this.#byAddress.get(address)
  }
}
