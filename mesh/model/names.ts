// SPDX-License-Identifier: Apache-2.0
// Names that two processes must agree on: Istio's labels and annotations as they are, and the forms of keys. Kubernetes' own names
// stand where they are read.

import type { WorkloadUid } from './types.ts'

/** On a namespace or pod: `ambient` puts it into the mesh, `none` on a pod keeps it out. */
export const DATAPLANE_MODE_LABEL = 'istio.io/dataplane-mode'
/** On a pod, written by whoever captures it: it accepts HBONE on 15008 when it says `enabled`. */
export const REDIRECTION_ANNOTATION = 'ambient.istio.io/redirection'
/** The same, of our agents alone, in a cluster that another mesh of this kind has a part of: the first is that mesh's there. */
export const OWN_REDIRECTION_ANNOTATION = 'ambit.io/redirection'
/** On a pod that accepts HBONE by itself: `http`. */
export const TUNNEL_LABEL = 'networking.istio.io/tunnel'
/** On a pod that has a sidecar of Istio's. */
export const SIDECAR_ANNOTATION = 'sidecar.istio.io/status'
/** On a pod: its name and version in metrics, before those of app.kubernetes.io. */
export const CANONICAL_NAME_LABEL = 'service.istio.io/canonical-name'
export const CANONICAL_REVISION_LABEL = 'service.istio.io/canonical-revision'
/**
 * What the cluster itself stands on, and what the mesh stands on: their pods are never enrolled, so no agent has a use for their
 * identities either.
 */
export const NEVER_ENROLLED_NAMESPACES: readonly string[] = ['kube-system', 'ambit-system']
/** On a namespace, Service or pod: the waypoint that its traffic goes through; `none` keeps it from the namespace's. */
export const USE_WAYPOINT_LABEL = 'istio.io/use-waypoint'
/** Beside it: the namespace of that waypoint, where it is not the object's own. */
export const USE_WAYPOINT_NAMESPACE_LABEL = 'istio.io/use-waypoint-namespace'
/** On a namespace or Service: whether gateways at the edge call it by its waypoint; all who call Services do. */
export const INGRESS_USE_WAYPOINT_LABEL = 'istio.io/ingress-use-waypoint'
/** On a namespace or Service: another waypoint beside that one, which takes a share of the connections. */
export const CANARY_WAYPOINT_LABEL = 'istio.io/use-waypoint-canary'
export const CANARY_WAYPOINT_NAMESPACE_LABEL = 'istio.io/use-waypoint-canary-namespace'
/** An annotation: how many of a hundred connections it takes. */
export const CANARY_WAYPOINT_WEIGHT = 'istio.io/use-waypoint-canary-weight'
/** On a Gateway or its class: which traffic it is for, `service`, `workload`, `all` or `none`. */
export const WAYPOINT_FOR_LABEL = 'istio.io/waypoint-for'
/** On what is bound to a waypoint: `true` lets traffic past one that is not there or not ready. */
export const FAIL_OPEN_ANNOTATION = 'ambit.io/waypoint-fail-open'
/** On the pods of a Gateway: its name. */
export const GATEWAY_NAME_LABEL = 'gateway.networking.k8s.io/gateway-name'
export const GATEWAY_CLASS_LABEL = 'gateway.networking.k8s.io/gateway-class-name'
/** What a GatewayClass says whose Gateways are our waypoints. */
export const WAYPOINT_CONTROLLER = 'ambit.io/waypoint-controller'
/** Condition of an agent's pod: it has its node. A readiness gate of the chart's. */
export const SERVING_CONDITION = 'ambit.io/serves-node'
/** Condition of an agent's pod: `False`, with a message, while new pods of its node start without the CNI plugin. */
export const CHAINED_CONDITION = 'ambit.io/cni-chained'
/**
 * On what tells others of the mesh's roots: `published`. The ConfigMap in each namespace has a name of Istio's, so that the name alone does
 * not say whose it is.
 */
export const ROOT_LABEL = 'ambit.io/root'
/** Whose roots a ClusterTrustBundle of ours has, as a pod that mounts them says it. */
export const TRUST_BUNDLE_SIGNER = 'ambit.io/mesh'
/** On a node, below region and zone. */
export const SUBZONE_LABEL = 'topology.istio.io/subzone'
/** On a Service, for servers without spec.trafficDistribution. */
export const TRAFFIC_DISTRIBUTION_ANNOTATION = 'networking.istio.io/traffic-distribution'
/** On an EndpointSlice: the Service it belongs to. */
export const SERVICE_NAME_LABEL = 'kubernetes.io/service-name'

/** A pod's key in the mesh state. Made of its name, not its uid: a pod of a StatefulSet that comes again is the same workload. */
export function podWorkloadUid(
  clusterId: string,
  { namespace, name }: { readonly namespace: string; readonly name: string },
): WorkloadUid {
  // Joined, because a template would keep its parts beside the whole, and there is a key for each pod of a cluster.
  return [clusterId, '', 'Pod', namespace, name].join('/') as WorkloadUid
}

/** The cluster that a workload is of, by its key. */
export function clusterOfUid(uid: WorkloadUid): string {
  return uid.slice(0, Math.max(0, uid.indexOf('/')))
}

/** Whether a workload key names a pod, in whatever cluster. */
export function isPodWorkloadUid(uid: WorkloadUid): boolean {
  const slash = uid.indexOf('/')
  return slash >= 0 && uid.startsWith('//Pod/', slash)
}

/** Whether a workload key names an endpoint that an EndpointSlice gives by its address, in whatever cluster. */
export function isSlicesWorkloadUid(uid: WorkloadUid): boolean {
  const slash = uid.indexOf('/')
  return slash >= 0 && uid.startsWith('/discovery.k8s.io/EndpointSlice/', slash)
}
