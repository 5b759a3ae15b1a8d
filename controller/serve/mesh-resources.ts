// SPDX-License-Identifier: Apache-2.0
// From changes of the mesh to changes of what the discovery server offers, type by type.

import type { MeshChange, MeshNode } from '../../mesh/model/types.ts'
import type { BackendTls } from '../../mesh/model/backend-tls.ts'
import type { HttpRoutes } from '../../mesh/model/http-routes.ts'
import type { NetworkPolicy } from '../../mesh/model/network-policy.ts'
import type { Policy } from '../../mesh/model/policy.ts'
import type { WaypointPolicy } from '../../mesh/model/waypoint-policy.ts'
import { ADDRESS, type AddressResource } from '../../mesh/xds/types/address.ts'

/** What to offer anew and what to withdraw. */
export interface OfferChange<T> {
  readonly upserts: readonly T[]
  readonly removed: readonly string[]
}

/** What the changes mean for workloads and services. */
export function addressResources(changes: readonly MeshChange[]): OfferChange<AddressResource> {
  const last = new LastWords<AddressResource>()
  for (const change of changes)
    switch (change.kind) {
      case 'workload':
      case 'service':
        last.set(ADDRESS.name(change), change)
        break
      case 'workloadRemoved':
        last.remove(change.uid)
        break
      case 'serviceRemoved':
        last.remove(change.key)
        break
      case 'workloadUnreadable':
      case 'node':
      case 'nodeRemoved':
      case 'policy':
      case 'policyRemoved':
      case 'policyUnreadable':
      case 'policyKnowledge':
      case 'networkPolicy':
      case 'networkPolicyRemoved':
      case 'networkPolicyUnreadable':
      case 'httpRoutes':
      case 'httpRoutesRemoved':
      case 'backendTls':
      case 'backendTlsRemoved':
      case 'waypointPolicy':
      case 'waypointPolicyRemoved':
      case 'waypointPolicyUnreadable':
        break
    }
  return last.offer()
}

/** What the changes mean for nodes. */
export function nodeResources(changes: readonly MeshChange[]): OfferChange<MeshNode> {
  const last = new LastWords<MeshNode>()
  for (const change of changes)
    if (change.kind === 'node') last.set(change.node.key, change.node)
    else if (change.kind === 'nodeRemoved') last.remove(change.key)
  return last.offer()
}

/** What the changes mean for policies. */
export function policyResources(changes: readonly MeshChange[]): OfferChange<Policy> {
  const last = new LastWords<Policy>()
  for (const change of changes)
    if (change.kind === 'policy') last.set(change.policy.key, change.policy)
    else if (change.kind === 'policyRemoved') last.remove(change.key)
  return last.offer()
}

/** What the changes mean for NetworkPolicies. */
export function networkPolicyResources(changes: readonly MeshChange[]): OfferChange<NetworkPolicy> {
  const last = new LastWords<NetworkPolicy>()
  for (const change of changes)
    if (change.kind === 'networkPolicy') last.set(change.policy.key, change.policy)
    else if (change.kind === 'networkPolicyRemoved') last.remove(change.key)
  return last.offer()
}

/** What the changes mean for the routes of Services. */
export function httpRouteResources(changes: readonly MeshChange[]): OfferChange<HttpRoutes> {
  const last = new LastWords<HttpRoutes>()
  for (const change of changes)
    if (change.kind === 'httpRoutes') last.set(change.routes.key, change.routes)
    else if (change.kind === 'httpRoutesRemoved') last.remove(change.key)
  return last.offer()
}

/** What the changes mean for TLS to the pods of Services. */
export function backendTlsResources(changes: readonly MeshChange[]): OfferChange<BackendTls> {
  const last = new LastWords<BackendTls>()
  for (const change of changes)
    if (change.kind === 'backendTls') last.set(change.tls.key, change.tls)
    else if (change.kind === 'backendTlsRemoved') last.remove(change.key)
  return last.offer()
}

/** What the changes mean for the policies of waypoints. */
export function waypointPolicyResources(
  changes: readonly MeshChange[],
): OfferChange<WaypointPolicy> {
  const last = new LastWords<WaypointPolicy>()
  for (const change of changes)
    if (change.kind === 'waypointPolicy') last.set(change.policy.key, change.policy)
    else if (change.kind === 'waypointPolicyRemoved') last.remove(change.key)
  return last.offer()
}

/** The last word on a name counts: one batch may take a resource away and bring it back. */
class LastWords<T> {
  readonly #upserts = new Map<string, T>()
  readonly #removed = new Set<string>()

  set(name: string, resource: T): void {
    this.#removed.delete(name)
    this.#upserts.set(name, resource)
  }

  remove(name: string): void {
    this.#upserts.delete(name)
    this.#removed.add(name)
  }

  offer(): OfferChange<T> {
    return { upserts: [...this.#upserts.values()], removed: [...this.#removed] }
  }
}
