// SPDX-License-Identifier: Apache-2.0
// What the mesh is made from: the kinds of Kubernetes objects that are read, what is taken of each, and the collections
// these facts come in.

import type { Collection } from '../../mesh/collections/index.ts'
import type {
  EndpointSlice,
  Namespace,
  Node,
  Pod,
  PolicyResource,
  Service as KubeService,
} from '../../mesh/kube/resources.ts'
import type { AuthorizationPolicyFacts } from '../istio-api/authorization-policy.ts'
import type { PeerAuthenticationFacts } from '../istio-api/peer-authentication.ts'
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
  readonly AuthorizationPolicy: PolicyResource
  readonly PeerAuthentication: PolicyResource
}

export type InputKind = keyof InputObjects

/** What is kept of an object of each kind. */
export interface InputFacts {
  readonly Pod: PodFacts
  readonly Service: ServiceFacts
  readonly EndpointSlice: SliceFacts
  readonly Node: NodeFacts
  readonly Namespace: NamespaceFacts
  readonly AuthorizationPolicy: AuthorizationPolicyFacts
  readonly PeerAuthentication: PeerAuthenticationFacts
}

/** The facts of all clusters, by kind. */
export type ObjectCollections = {
  readonly [K in InputKind]: Collection<ObjectKey, InputFacts[K]>
}
