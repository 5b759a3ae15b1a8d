// SPDX-License-Identifier: Apache-2.0
// The workloads of the mesh, from facts about Kubernetes objects. Pure: everything an answer depends on is a parameter.

import { isIpv4Address } from '../../mesh/model/address.ts'
import type { GatewayAddress } from '../../mesh/model/gateway.ts'
import type { IpAddress, Locality, Workload, WorkloadUid } from '../../mesh/model/types.ts'
import type { TranslateConfig } from './config.ts'
import type { Listing } from './listing.ts'
import type { NetworkStanding } from '../network-policy/network-policies.ts'
import type { Belonging, Listed } from './membership.ts'
import type { ObjectKey } from './origin.ts'
import type { PodFacts } from './pod.ts'
import type { SliceEndpoint } from './slice.ts'

/** What has no labels is selected by nothing. One list for all. */
const NO_POLICIES: readonly string[] = []

/** Whether a pod is a workload: it has an address, and has not ended. */
export function isPresent(pod: PodFacts): boolean {
  return pod.addresses.length > 0 && !pod.hasEnded
}

/** How many families of addresses a pod has. */
export function familiesOf({ addresses }: PodFacts): number {
  const [first, ...others] = addresses.map(isIpv4Address)
  return others.some((other) => other !== first) ? 2 : 1
}

/** What others say of a pod. */
export interface PodStanding extends Belonging {
  readonly policies: readonly string[]
  readonly network: NetworkStanding
  readonly waypoint: GatewayAddress | undefined
}

/** The workload of a pod; `key` is the pod's, as podKey() makes it. */
export function workloadOfPod(
  config: TranslateConfig,
  pod: PodFacts,
  key: ObjectKey,
  locality: Locality,
  { services, leaving, policies, network, waypoint }: PodStanding,
): Workload {
  const { template } = pod
  return {
    uid: key as string as WorkloadUid,
    name: pod.name,
    namespace: template.namespace,
    addresses: pod.addresses,
    hostname: '',
    network: config.network,
    tunnelProtocol: template.tunnelProtocol,
    trustDomain: config.trustDomain,
    serviceAccount: template.serviceAccount,
    node: pod.node,
    canonicalName: template.canonicalName,
    canonicalRevision: template.canonicalRevision,
    workloadType: template.workloadType,
    workloadName: template.workloadName,
    nativeTunnel: template.nativeTunnel,
    services,
    authorizationPolicies: policies,
    // Slices have the last word: whoever belongs to a Service is fit for it, also a pod that finds itself unready.
    status: pod.isHealthy || services.size > 0 ? 'healthy' : 'unhealthy',
    clusterId: template.cluster,
    locality,
    foundBy: template.isHostNetwork ? 'service' : 'address',
    waypoint,
    networkGateway: undefined,
    capacity: 1,
    leaving,
    networkPolicies: network.policies,
    peerGroups: network.groups,
    namedPorts: template.namedPorts,
  }
}

/** An address that is no pod's, and where the slices of one Service list it. */
export interface BareAddress {
  readonly address: IpAddress
  /** The first endpoint that has it, and that one's slice. */
  readonly endpoint: SliceEndpoint
  readonly listing: Listing
  readonly listed: readonly Listed[]
}

/**
 * The workload of an address that is no pod's (the API server, a database outside). It is not found by the address, because
 * that may be a node's: only through its Service.
 */
export function workloadOfEndpoint(
  config: TranslateConfig,
  { address, endpoint, listing }: BareAddress,
  locality: Locality,
  { services, leaving }: Belonging,
): Workload {
  const { cluster, namespace, slice, service } = listing
  return {
    uid: `${cluster}/discovery.k8s.io/EndpointSlice/${namespace}/${slice}/${address}` as WorkloadUid,
    name: `${slice}-${address}`,
    namespace,
    addresses: [address],
    hostname: '',
    network: config.network,
    tunnelProtocol: 'none',
    trustDomain: config.trustDomain,
    serviceAccount: 'default',
    node: endpoint.node,
    canonicalName: service,
    canonicalRevision: 'latest',
    workloadType: 'pod',
    workloadName: service,
    nativeTunnel: false,
    services,
    authorizationPolicies: NO_POLICIES,
    status: services.size > 0 ? 'healthy' : 'unhealthy',
    clusterId: cluster,
    locality: locality.zone === '' ? { ...locality, zone: endpoint.zone } : locality,
    foundBy: 'service',
    waypoint: undefined,
    networkGateway: undefined,
    capacity: 1,
    leaving,
    networkPolicies: NO_POLICIES,
    peerGroups: NO_POLICIES,
    namedPorts: [],
  }
}

/**
 * Endpoints of one Service that are bare addresses, repeated ones counted. Kubernetes' Endpoints end at as many; without a
 * bound one Service would give every agent of the mesh as much to keep as somebody cares to write.
 */
export const MOST_BARE = 1_000

/**
 * The bare addresses of one Service, each once however many of its slices list it; `isBare` tells who is one. Over the bound
 * those of the first slices by name count.
 */
export function bareAddresses(
  listings: readonly Listing[],
  isBare: (endpoint: SliceEndpoint, listing: Listing) => boolean,
): { readonly addresses: readonly BareAddress[]; readonly hasMore: boolean } {
  const found = new Map<IpAddress, BareAddress & { readonly listed: Listed[] }>()
  let count = 0
  for (const listing of listings)
    for (const endpoint of listing.endpoints) {
      if (!isBare(endpoint, listing)) continue
      count += 1
      if (count > MOST_BARE) return { addresses: [...found.values()], hasMore: true }
      const { address, fitness } = endpoint
      const known = found.get(address)
      if (known !== undefined) known.listed.push({ listing, fitness })
      else found.set(address, { address, endpoint, listing, listed: [{ listing, fitness }] })
    }
  return { addresses: [...found.values()], hasMore: false }
}
