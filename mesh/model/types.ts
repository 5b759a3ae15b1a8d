// SPDX-License-Identifier: Apache-2.0
// The mesh model: what agents, waypoints and the controller all mean by workload and service. It follows istio.workload
// (WDS) field by field; each type stands beside its table for the wire, the indexes are in mesh-state.ts.

import type { BackendTls } from './backend-tls.ts'
import type { HttpRoutes } from './http-routes.ts'
import type { MeshNode, NodeKey } from './mesh-node.ts'
import type { NetworkPolicy } from './network-policy.ts'
import type { UnreadableNetworkPolicy } from './network-policy-index.ts'
import type { Policy, PolicyKey } from './policy.ts'
import type { PolicyKnowledge, UnreadablePolicy } from './policy-index.ts'
import type { Service, ServiceKey } from './service.ts'
import type { WaypointPolicy } from './waypoint-policy.ts'
import type { UnreadableWaypointPolicy } from './waypoint-policy-index.ts'
import type { Workload, WorkloadUid } from './workload.ts'

export type { IpAddress, SocketAddress } from './address.ts'
export type { AppProtocol, GatewayAddress, ServicePort, WorkloadPort } from './gateway.ts'
export type { MeshNode, NodeKey } from './mesh-node.ts'
export type {
  IpFamilies,
  LoadBalancing,
  NodePort,
  RoutingScope,
  Service,
  ServiceKey,
} from './service.ts'
export type {
  Locality,
  Memberships,
  TunnelProtocol,
  Workload,
  WorkloadType,
  WorkloadUid,
} from './workload.ts'

/** `spiffe://<trust domain>/ns/<namespace>/sa/<service account>` */
export type SpiffeId = string & { readonly __brand: 'SpiffeId' }

/** `metadata.uid` of a Kubernetes Pod: one pod for ever, unlike its name and addresses. */
export type PodUid = string & { readonly __brand: 'PodUid' }

/** One change of the mesh state; the unit that travels by xDS and from the agent's main thread to its workers. */
export type MeshChange =
  | { readonly kind: 'workload'; readonly workload: Workload }
  | { readonly kind: 'workloadRemoved'; readonly uid: WorkloadUid }
  /** It is there, and what came last of it cannot be read: peers know it as it was; which policies it names now is not known. */
  | { readonly kind: 'workloadUnreadable'; readonly uid: WorkloadUid; readonly reason: string }
  | { readonly kind: 'service'; readonly service: Service }
  | { readonly kind: 'serviceRemoved'; readonly key: ServiceKey }
  | { readonly kind: 'node'; readonly node: MeshNode }
  | { readonly kind: 'nodeRemoved'; readonly key: NodeKey }
  | { readonly kind: 'policy'; readonly policy: Policy }
  | { readonly kind: 'policyRemoved'; readonly key: PolicyKey }
  /** Whatever was known of it is out of date, and what came instead cannot be read. */
  | { readonly kind: 'policyUnreadable'; readonly policy: UnreadablePolicy }
  | { readonly kind: 'policyKnowledge'; readonly is: Exclude<PolicyKnowledge, 'unknown'> }
  | { readonly kind: 'networkPolicy'; readonly policy: NetworkPolicy }
  | { readonly kind: 'networkPolicyRemoved'; readonly key: PolicyKey }
  | { readonly kind: 'networkPolicyUnreadable'; readonly policy: UnreadableNetworkPolicy }
  /** To waypoints alone. */
  | { readonly kind: 'httpRoutes'; readonly routes: HttpRoutes }
  | { readonly kind: 'httpRoutesRemoved'; readonly key: string }
  | { readonly kind: 'backendTls'; readonly tls: BackendTls }
  | { readonly kind: 'backendTlsRemoved'; readonly key: string }
  | { readonly kind: 'waypointPolicy'; readonly policy: WaypointPolicy }
  | { readonly kind: 'waypointPolicyRemoved'; readonly key: PolicyKey }
  | { readonly kind: 'waypointPolicyUnreadable'; readonly policy: UnreadableWaypointPolicy }
