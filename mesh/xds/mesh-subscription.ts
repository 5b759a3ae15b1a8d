// SPDX-License-Identifier: Apache-2.0
// Turns what discovery says of addresses into changes of the mesh state.

import type { MeshChange, MeshNode, NodeKey, ServiceKey, WorkloadUid } from '../model/types.ts'
import type { Policy, PolicyKey } from '../model/policy.ts'
import { type BackendTls, unreadableBackendTls } from '../model/backend-tls.ts'
import { unreadableHttpRoutes } from '../model/http-routes-wire.ts'
import { isPodWorkloadUid } from '../model/names.ts'
import { Subscription } from './subscription.ts'
import { ADDRESS, type AddressResource } from './types/address.ts'
import type { HttpRoutes } from '../model/http-routes.ts'
import type { NetworkPolicy } from '../model/network-policy.ts'
import type { WaypointPolicy } from '../model/waypoint-policy.ts'
import { AUTHORIZATION } from './types/authorization.ts'
import { BACKEND_TLS } from './types/backend-tls.ts'
import { HTTP_ROUTES } from './types/http-routes.ts'
import { NODE } from './types/mesh-node.ts'
import { NETWORK } from './types/network-policy.ts'
import { WAYPOINT_POLICIES } from './types/waypoint-policy.ts'

/**
 * Follows all workloads and services. Of one that cannot be read peers keep the earlier state; that the policies which a workload named
 * before are those that it names now is for nobody to assume.
 *
 * @example meshSubscription((changes) => state.apply(changes))
 */
export function meshSubscription(
  onChanges: (changes: readonly MeshChange[]) => void,
): Subscription<AddressResource> {
  // A removal carries only a name; this tells which kind it was.
  const serviceNames = new Set<string>()
  return new Subscription(ADDRESS, '*', (resources, removed, refused) => {
    const changes: MeshChange[] = []
    // Removals first: a name that is both removed and sent in one response exists.
    for (const name of removed) {
      if (serviceNames.delete(name))
        changes.push({ kind: 'serviceRemoved', key: name as ServiceKey })
      else changes.push({ kind: 'workloadRemoved', uid: name as WorkloadUid })
    }
    for (const { name, problem } of refused)
      if (isPodWorkloadUid(name as WorkloadUid))
        changes.push({
          kind: 'workloadUnreadable',
          uid: name as WorkloadUid,
          reason: `${problem.field}: ${problem.reason}`,
        })
    for (const resource of resources) {
      changes.push(resource)
      if (resource.kind === 'service') serviceNames.add(resource.service.key)
    }
    onChanges(changes)
  })
}

/**
 * Follows all nodes, where the control plane has them to offer. To be asked for before the workloads, so that of a control plane
 * that has them node ports are known as soon as Services are.
 */
export function nodeSubscription(
  onChanges: (changes: readonly MeshChange[]) => void,
): Subscription<MeshNode> {
  const apply = (nodes: readonly MeshNode[], removed: readonly string[]): void =>
    onChanges([
      ...removed.map((key) => ({ kind: 'nodeRemoved' as const, key: key as NodeKey })),
      ...nodes.map((node) => ({ kind: 'node' as const, node })),
    ])
  return new Subscription(NODE, '*', apply, { isOptional: true })
}

/**
 * Follows all policies. To be asked for before the workloads, so that no workload is known before what concerns it is. One that cannot be
 * read does not go on as it was: what it demands now is not known.
 */
export function policySubscription(
  onChanges: (changes: readonly MeshChange[]) => void,
): Subscription<Policy> {
  return new Subscription(AUTHORIZATION, '*', (policies, removed, refused) =>
    onChanges([
      ...removed.map((key) => ({ kind: 'policyRemoved' as const, key: key as PolicyKey })),
      ...refused.map(({ name, problem: { field, reason } }) => ({
        kind: 'policyUnreadable' as const,
        policy: { key: name as PolicyKey, reason: `${field}: ${reason}`, scope: undefined },
      })),
      ...policies.map((policy) => ({ kind: 'policy' as const, policy })),
    ]),
  )
}

/**
 * Follows all NetworkPolicies, where the control plane has them to offer. All, not those of this node's pods alone: of a pod that discovery
 * has not told of yet, it is known only so that none can select it. An older control plane has none to offer, and its workloads name none.
 */
export function networkPolicySubscription(
  onChanges: (changes: readonly MeshChange[]) => void,
): Subscription<NetworkPolicy> {
  return new Subscription(
    NETWORK,
    '*',
    (policies, removed, refused) =>
      onChanges([
        ...removed.map((key) => ({ kind: 'networkPolicyRemoved' as const, key: key as PolicyKey })),
        ...refused.map(({ name, problem: { field, reason } }) => ({
          kind: 'networkPolicyUnreadable' as const,
          policy: { key: name as PolicyKey, reason: `${field}: ${reason}` },
        })),
        ...policies.map((policy) => ({ kind: 'networkPolicy' as const, policy })),
      ]),
    { isOptional: true },
  )
}

/**
 * Follows what waypoints do with requests. To be asked for before the Services, so that none is served without its routes. Of one that
 * cannot be read the earlier state goes on; where there is none its requests are answered with an error, for they are not to go where
 * no route would send them.
 */
export function httpRoutesSubscription(
  onChanges: (changes: readonly MeshChange[]) => void,
): Subscription<HttpRoutes> {
  const known = new Set<string>()
  return new Subscription(HTTP_ROUTES, '*', (all, removed, refused) => {
    for (const key of removed) known.delete(key)
    const unreadable = refused.filter(({ name }) => !known.has(name))
    for (const { key } of all) known.add(key)
    onChanges([
      ...removed.map((key) => ({ kind: 'httpRoutesRemoved' as const, key })),
      ...unreadable.map(({ name, problem: { field, reason } }) => ({
        kind: 'httpRoutes' as const,
        routes: unreadableHttpRoutes(name, `${field}: ${reason}`),
      })),
      ...all.map((routes) => ({ kind: 'httpRoutes' as const, routes })),
    ])
  })
}

/**
 * Follows how waypoints speak TLS to pods, where the control plane has that to offer: an older one has not. To be asked for before the
 * Services, so that none is called in plain meanwhile. One that cannot be read does not go on as it was: whom to trust now is not known.
 */
export function backendTlsSubscription(
  onChanges: (changes: readonly MeshChange[]) => void,
): Subscription<BackendTls> {
  return new Subscription(
    BACKEND_TLS,
    '*',
    (all, removed, refused) =>
      onChanges([
        ...removed.map((key) => ({ kind: 'backendTlsRemoved' as const, key })),
        ...refused.map(({ name, problem: { field, reason } }) => ({
          kind: 'backendTls' as const,
          tls: unreadableBackendTls(name, `${field}: ${reason}`),
        })),
        ...all.map((tls) => ({ kind: 'backendTls' as const, tls })),
      ]),
    { isOptional: true },
  )
}

/**
 * Follows the policies of waypoints. To be asked for before the Services, so that none is served without what judges its calls. One that
 * cannot be read does not go on as it was: what it demands now is not known.
 */
export function waypointPolicySubscription(
  onChanges: (changes: readonly MeshChange[]) => void,
): Subscription<WaypointPolicy> {
  return new Subscription(WAYPOINT_POLICIES, '*', (policies, removed, refused) =>
    onChanges([
      ...removed.map((key) => ({ kind: 'waypointPolicyRemoved' as const, key: key as PolicyKey })),
      ...refused.map(({ name, problem: { field, reason } }) => ({
        kind: 'waypointPolicyUnreadable' as const,
        policy: { key: name as PolicyKey, reason: `${field}: ${reason}`, targets: undefined },
      })),
      ...policies.map((policy) => ({ kind: 'waypointPolicy' as const, policy })),
    ]),
  )
}
