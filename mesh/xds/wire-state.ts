// SPDX-License-Identifier: Apache-2.0
// A mesh state as plain data that can be kept in a file and read again: each resource in its own encoding, by type and name, and what it
// remembers of resources that are gone (wire-memory.ts). So who reads it sees what the agent saw, field by field, and not what a dump for
// people shows of it.

import type { HttpRoutes } from '../model/http-routes.ts'
import type { MeshState } from '../model/mesh-state.ts'
import type { UnreadableNetworkPolicy } from '../model/network-policy-index.ts'
import type { PolicyKnowledge, UnreadablePolicy } from '../model/policy-index.ts'
import type { UnreadableWaypointPolicy } from '../model/waypoint-policy-index.ts'
import type { MeshChange, WorkloadUid } from '../model/types.ts'
import { err, ok, type Result } from '../result.ts'
import { formatResourceProblem, type ResourceType } from './resource-type.ts'
import { ADDRESS } from './types/address.ts'
import { AUTHORIZATION } from './types/authorization.ts'
import { BACKEND_TLS } from './types/backend-tls.ts'
import { HTTP_ROUTES } from './types/http-routes.ts'
import { NODE } from './types/mesh-node.ts'
import { NETWORK } from './types/network-policy.ts'
import { WAYPOINT_POLICIES } from './types/waypoint-policy.ts'
import { encodeMemory, type WireMemory } from './wire-memory.ts'

export interface WireState {
  /** Base64 by name, by type URL. */
  readonly types: Readonly<Record<string, Readonly<Record<string, string>>>>
  /** Policies that are there and could not be read. */
  readonly unreadablePolicies: readonly UnreadablePolicy[]
  /** Workloads of which what came last could not be read, and why; dumps of before lack it. */
  readonly unreadableWorkloads?: Readonly<Record<string, string>>
  /** NetworkPolicies of the same kind; left out by agents that know none. */
  readonly unreadableNetworkPolicies?: readonly UnreadableNetworkPolicy[]
  /** Policies of waypoints of the same kind; left out by who knows none. */
  readonly unreadableWaypointPolicies?: readonly UnreadableWaypointPolicy[]
  readonly policyKnowledge: PolicyKnowledge
  /** What decodeMemory() reads; dumps of before lack it. */
  readonly formerly?: WireMemory
}

/** The whole state. `shown`: routes as they may be shown, where they are for others to read. */
export function encodeMeshState(
  mesh: MeshState,
  shown: (routes: HttpRoutes) => HttpRoutes = (routes) => routes,
): WireState {
  const addresses: Record<string, string> = {}
  const policies: Record<string, string> = {}
  const nodes: Record<string, string> = {}
  const networkPolicies: Record<string, string> = {}
  const httpRoutes: Record<string, string> = {}
  const backendTls: Record<string, string> = {}
  const waypointPolicies: Record<string, string> = {}
  for (const change of mesh.snapshot())
    switch (change.kind) {
      case 'workload':
      case 'service':
        put(addresses, ADDRESS, change)
        break
      case 'policy':
        put(policies, AUTHORIZATION, change.policy)
        break
      case 'node':
        put(nodes, NODE, change.node)
        break
      case 'networkPolicy':
        put(networkPolicies, NETWORK, change.policy)
        break
      case 'httpRoutes':
        put(httpRoutes, HTTP_ROUTES, shown(change.routes))
        break
      case 'backendTls':
        put(backendTls, BACKEND_TLS, change.tls)
        break
      case 'waypointPolicy':
        put(waypointPolicies, WAYPOINT_POLICIES, change.policy)
        break
      default:
        // A snapshot has no removals; what else is known of policies stands beside them.
        break
    }
  return {
    types: {
      [ADDRESS.typeUrl]: addresses,
      [AUTHORIZATION.typeUrl]: policies,
      [NODE.typeUrl]: nodes,
      [NETWORK.typeUrl]: networkPolicies,
      [HTTP_ROUTES.typeUrl]: httpRoutes,
      [BACKEND_TLS.typeUrl]: backendTls,
      [WAYPOINT_POLICIES.typeUrl]: waypointPolicies,
    },
    unreadablePolicies: [...mesh.policies.allUnreadable()],
    unreadableWorkloads: Object.fromEntries(mesh.unreadableWorkloads()),
    unreadableNetworkPolicies: [...mesh.networkPolicies.allUnreadable()],
    unreadableWaypointPolicies: [...mesh.waypointPolicies.allUnreadable()],
    policyKnowledge: mesh.policies.knowledge,
    formerly: encodeMemory(mesh.formerly),
  }
}

/** Changes that make an empty state equal to the one that was written; the error names what cannot be read. */
export function decodeMeshState(state: WireState): Result<MeshChange[], string> {
  const changes: MeshChange[] = []
  const problems = [
    ...take(state, NODE, (node) => changes.push({ kind: 'node', node })),
    ...take(state, NETWORK, (policy) => changes.push({ kind: 'networkPolicy', policy })),
    ...take(state, AUTHORIZATION, (policy) => changes.push({ kind: 'policy', policy })),
    ...take(state, HTTP_ROUTES, (routes) => changes.push({ kind: 'httpRoutes', routes })),
    ...take(state, BACKEND_TLS, (tls) => changes.push({ kind: 'backendTls', tls })),
    ...take(state, WAYPOINT_POLICIES, (policy) => changes.push({ kind: 'waypointPolicy', policy })),
    ...take(state, ADDRESS, (address) => changes.push(address)),
  ]
  for (const policy of state.unreadablePolicies) changes.push({ kind: 'policyUnreadable', policy })
  for (const [uid, reason] of Object.entries(state.unreadableWorkloads ?? {}))
    changes.push({ kind: 'workloadUnreadable', uid: uid as WorkloadUid, reason })
  for (const policy of state.unreadableNetworkPolicies ?? [])
    changes.push({ kind: 'networkPolicyUnreadable', policy })
  for (const policy of state.unreadableWaypointPolicies ?? [])
    changes.push({ kind: 'waypointPolicyUnreadable', policy })
  if (state.policyKnowledge !== 'unknown')
    changes.push({ kind: 'policyKnowledge', is: state.policyKnowledge })
  const [first] = problems
  return first === undefined ? ok(changes) : err(first)
}

function put<T>(into: Record<string, string>, type: ResourceType<T>, value: T): void {
  into[type.name(value)] = Buffer.from(type.encode(value)).toString('base64')
}

function take<T>(
  state: WireState,
  type: ResourceType<T>,
  use: (value: T) => unknown,
): readonly string[] {
  const problems: string[] = []
  for (const [name, text] of Object.entries(state.types[type.typeUrl] ?? {})) {
    const decoded = type.decode(name, Buffer.from(text, 'base64'))
    if (decoded.ok) use(decoded.value)
    else problems.push(formatResourceProblem(decoded.error))
  }
  return problems
}
