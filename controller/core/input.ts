// SPDX-License-Identifier: Apache-2.0
// What the mesh is made from: the kinds of Kubernetes objects that are read, what is taken of each, and the collections
// these facts come in.

import type { Collection } from '../../mesh/collections/index.ts'
import type {
  ConfigMap,
  EndpointSlice,
  Namespace,
  Node,
  Pod,
  PolicyResource,
  Service as KubeService,
} from '../../mesh/kube/resources.ts'
import type { BackendTlsPolicyFacts } from '../gateway-api/backend-tls-policy.ts'
import type { CaBundleFacts } from '../gateway-api/ca-bundle.ts'
import type { GatewayFacts } from '../gateway-api/gateway.ts'
import type { GatewayClassFacts } from '../gateway-api/gateway-class.ts'
import type { AuthorizationPolicyFacts } from '../istio-api/authorization-policy.ts'
import type { PeerAuthenticationFacts } from '../istio-api/peer-authentication.ts'
import type { NetworkPolicyFacts } from '../network-policy/network-policy.ts'
import type { ReferenceGrantFacts } from '../gateway-api/reference-grant.ts'
import type { RouteFacts } from '../gateway-api/route-object.ts'
import type { NamespaceFacts, NodeFacts } from './node.ts'
import type { ObjectKey } from './origin.ts'
import type { PodFacts } from './pod.ts'
import type { ServiceFacts } from './service.ts'
import type { SliceFacts } from './slice.ts'

/** The kinds, and what their objects look like. */
export interface InputObjects {
  readonly Pod: Pod
  readonly Service: KubeService
  readonly EndpointSlice: EndpointSlice
  readonly Node: Node
  readonly Namespace: Namespace
  readonly HTTPRoute: PolicyResource
  readonly GRPCRoute: PolicyResource
  readonly TCPRoute: PolicyResource
  readonly TLSRoute: PolicyResource
  readonly ReferenceGrant: PolicyResource
  readonly BackendTLSPolicy: PolicyResource
  /** Read only while a BackendTLSPolicy may name one. */
  readonly ConfigMap: ConfigMap
  readonly AuthorizationPolicy: PolicyResource
  readonly PeerAuthentication: PolicyResource
  readonly NetworkPolicy: PolicyResource
  readonly GatewayClass: PolicyResource
  readonly Gateway: PolicyResource
}

export type InputKind = keyof InputObjects

/** What is kept of an object of each kind. */
export interface InputFacts {
  readonly Pod: PodFacts
  readonly Service: ServiceFacts
  readonly EndpointSlice: SliceFacts
  readonly Node: NodeFacts
  readonly Namespace: NamespaceFacts
  readonly HTTPRoute: RouteFacts
  readonly GRPCRoute: RouteFacts
  readonly TCPRoute: RouteFacts
  readonly TLSRoute: RouteFacts
  readonly ReferenceGrant: ReferenceGrantFacts
  readonly BackendTLSPolicy: BackendTlsPolicyFacts
  readonly ConfigMap: CaBundleFacts
  readonly AuthorizationPolicy: AuthorizationPolicyFacts
  readonly PeerAuthentication: PeerAuthenticationFacts
  readonly NetworkPolicy: NetworkPolicyFacts
  readonly GatewayClass: GatewayClassFacts
  readonly Gateway: GatewayFacts
}

/** The facts of all clusters, by kind. */
export type ObjectCollections = {
  readonly [K in InputKind]: Collection<ObjectKey, InputFacts[K]>
}
