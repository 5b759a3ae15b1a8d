// SPDX-License-Identifier: Apache-2.0
// An EndpointSlice as its Service sees it: whom it lists, and at which ports; and who stands behind what is listed. Pure.

import type { IpAddress, ServiceKey, WorkloadPort } from '../../mesh/model/types.ts'
import type { PodFacts } from './pod.ts'
import { serviceKeys, type ServiceFacts } from './service.ts'
import {
  type AddressFamily,
  endpointsAt,
  type Fitness,
  type SliceEndpoint,
  type SliceFacts,
} from './slice.ts'

export interface Listing {
  readonly cluster: string
  readonly namespace: string
  readonly slice: string
  readonly service: string
  /** The Services of the mesh that the Service is: one for each of its host names. */
  readonly keys: readonly ServiceKey[]
  readonly family: AddressFamily
  /** Whether the Service may have slices of the other family, too. */
  readonly isDual: boolean
  /** Where the Service's ports lead. */
  readonly ports: readonly WorkloadPort[]
  /** In the order of their addresses. */
  readonly endpoints: readonly SliceEndpoint[]
}

/** A slice for its Service. One of a family that the Service does not have lists nobody: kube-proxy keeps the families apart. */
export function listingOf(slice: SliceFacts, service: ServiceFacts): Listing | undefined {
  const { cluster, namespace, name, family, endpoints } = slice
  const { ipFamilies } = service
  const isDual = ipFamilies === 'dual' || ipFamilies === 'automatic'
  if (!isDual && ipFamilies !== family) return undefined
  return {
    cluster,
    namespace,
    slice: name,
    service: service.name,
    keys: serviceKeys(service),
    family,
    isDual,
    ports: service.ports.flatMap(({ name: portName, servicePort, appProtocol }) => {
      const targetPort = slice.ports.get(portName)
      if (targetPort === undefined) return []
      return [{ servicePort, targetPort, appProtocol, family: 'any' as const }]
    }),
    endpoints,
  }
}

/** The addresses at which it lists somebody who is fit for something. */
export function listedAddresses({ endpoints }: Listing): readonly IpAddress[] {
  return endpoints.filter(({ fitness }) => fitness !== 'unfit').map(({ address }) => address)
}

/**
 * Of the slices of one foreign namespace that list a pod's address so many count. Whoever may write slices could list the pods of
 * all others a thousand times over: each would carry it about, and the controller compute it at each change.
 */
const MOST_OF_A_STRANGER = 16

/** The slices that count of those that list an address of a pod: all of its own namespace, of each other one the first few. */
export function* heard(listings: readonly Listing[], ownNamespace: string): Iterable<Listing> {
  const counts = new Map<string, number>()
  for (const listing of listings) {
    const { namespace } = listing
    if (namespace !== ownNamespace) {
      const count = counts.get(namespace) ?? 0
      if (count === MOST_OF_A_STRANGER) continue
      counts.set(namespace, count + 1)
    }
    yield listing
  }
}

/** How fit the fittest of the slice's endpoints at this address is that are meant; a slice may have an address a thousand times. */
export function fitnessAt(
  { endpoints }: Listing,
  address: IpAddress,
  isMeant: (endpoint: SliceEndpoint) => boolean,
): Fitness {
  let fittest: Fitness = 'unfit'
  for (const endpoint of endpointsAt(endpoints, address)) {
    if (endpoint.fitness === 'unfit' || !isMeant(endpoint)) continue
    if (endpoint.fitness === 'ready') return 'ready'
    fittest = endpoint.fitness
  }
  return fittest
}

/**
 * Whether an endpoint at one of the pod's addresses is this pod. Traffic goes where the address leads, as with kube-proxy, so
 * whoever has an address to himself is the endpoint, in whatever namespace and whatever the slice calls him. That is why
 * nobody gets plaintext to a pod of the mesh, or another identity for it, by writing a slice.
 *
 * @param claimants asked only when the slice does not name this very pod: the pods that have the address
 */
export function isBehind(
  pod: PodFacts,
  endpoint: SliceEndpoint,
  claimants: () => readonly PodFacts[],
): boolean {
  const { podUid } = endpoint
  if (podUid !== '') {
    if (podUid === pod.kubernetesUid) return true
    // Of several that claim an address one is on its way out; the slice knows which.
    if (claimants().some(({ kubernetesUid }) => kubernetesUid === podUid)) return false
  }
  // A node's address names none of the pods that use it.
  return !pod.template.isHostNetwork
}

/**
 * Whether an endpoint is an address that is no pod's: a database outside, a node.
 *
 * @param claimants the pods that have the address
 */
export function isBare(endpoint: SliceEndpoint, claimants: () => readonly PodFacts[]): boolean {
  const { podName, podUid, fitness } = endpoint
  if (fitness === 'unfit') return false
  // One that says it is a pod is never more than an address: until that pod is known nothing is sent there, least of all plaintext.
  if (podName !== undefined && podUid !== '') return false
  const known = claimants()
  if (known.some(({ template }) => !template.isHostNetwork)) return false
  return podName === undefined || known.length > 0
}
