// SPDX-License-Identifier: Apache-2.0
// What EndpointSlices add to a Service: endpoints that its selector does not give, and who stands behind each. Pure.

import type { IpAddress, Memberships, WorkloadPort } from '../../mesh/model/types.ts'
import { objectKey, podKey, type ObjectKey } from './origin.ts'
import type { PodFacts } from './pod.ts'
import { serviceKeys, type ServiceFacts } from './service.ts'
import type { SliceEndpoint, SliceFacts } from './slice.ts'

/** One endpoint of a slice that counts by itself. */
export interface Endpoint extends SliceEndpoint {
  readonly cluster: string
  readonly namespace: string
  readonly slice: string
  readonly service: string
  readonly memberships: Memberships
}

/** Who is behind an endpoint: pods, or addresses that are no pod's. */
export interface Backing {
  readonly pods: readonly ObjectKey[]
  readonly addresses: readonly IpAddress[]
  readonly endpoint: Endpoint
}

/** The endpoints of a slice by `slice/first address/pod`. Where a Service selects its pods, the selector decides about pods. */
export function endpointsOf(
  slice: SliceFacts,
  service: ServiceFacts,
): readonly (readonly [string, Endpoint])[] {
  const memberships: Memberships = new Map(
    serviceKeys(service).map((key) => [key, portsOf(service, slice.ports)]),
  )
  const { cluster, namespace, name } = slice
  const key = objectKey(cluster, namespace, name)
  return slice.endpoints.flatMap((endpoint) => {
    const [first] = endpoint.addresses
    if (first === undefined || (endpoint.podName !== undefined && service.selector !== undefined))
      return []
    const { podName = '', podUid } = endpoint
    const facts: Endpoint = {
      ...endpoint,
      cluster,
      namespace,
      slice: name,
      service: service.name,
      memberships,
    }
    return [[`${key}/${first}/${podName}/${podUid}`, facts] as const]
  })
}

/**
 * Decides who an endpoint is. Traffic goes where the addresses lead, as with kube-proxy, so an address that a pod has
 * is that pod, in whatever namespace: with the pod's own tunnel protocol and identity, whatever the slice calls it. That
 * is why nobody gets plaintext to a pod of the mesh, or another identity for it, by writing a slice.
 *
 * @param named the pod of the name that the endpoint gives, if there is one
 * @param claimants the pods that have one of its addresses to themselves
 */
export function backingOf(
  endpoint: Endpoint,
  named: PodFacts | undefined,
  claimants: readonly PodFacts[],
): Backing {
  const owners = claimants.filter(({ template }) => template.cluster === endpoint.cluster)
  const { podName, podUid } = endpoint
  const isMeant = named !== undefined && (podUid === '' || podUid === named.kubernetesUid)
  // Of several that claim an address one is on its way out; the slice knows which.
  if (isMeant && (owners.length === 0 || owners.includes(named)))
    return { pods: [keyOf(named)], addresses: [], endpoint }
  const owned = new Set(owners.flatMap(({ addresses }) => addresses))
  // An endpoint that says it is a pod is never more than addresses: until that pod is known nothing is sent there.
  return {
    pods: [...new Set(owners.map(keyOf))],
    addresses:
      podName === undefined ? endpoint.addresses.filter((address) => !owned.has(address)) : [],
    endpoint,
  }
}

/** The addresses by which a pod is found: a node's address names no single pod. */
export function ownAddresses(pod: PodFacts): readonly IpAddress[] {
  return pod.template.isHostNetwork || pod.hasEnded ? [] : pod.addresses
}

function keyOf({ name, template }: PodFacts): ObjectKey {
  return podKey(template.cluster, template.namespace, name)
}

function portsOf(
  service: ServiceFacts,
  targets: ReadonlyMap<string, number>,
): readonly WorkloadPort[] {
  return service.ports.flatMap(({ name, servicePort, appProtocol }) => {
    const targetPort = targets.get(name)
    return targetPort === undefined
      ? []
      : [{ servicePort, targetPort, appProtocol, family: 'any' as const }]
  })
}
