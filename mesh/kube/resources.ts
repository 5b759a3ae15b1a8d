// SPDX-License-Identifier: Apache-2.0
// Which Kubernetes resources there are to us, and what their objects look like on the wire.
// Types come from the official client's generated models, at no cost at run time.

import type {
  CoreV1Event,
  V1beta1ClusterTrustBundle,
  V1CertificateSigningRequest,
  V1ConfigMap,
  V1DaemonSet,
  V1EndpointSlice,
  V1Lease,
  V1Namespace,
  V1Node,
  V1ObjectMeta,
  V1Pod,
  V1Secret,
  V1Service,
  V1ServiceAccount,
  V1TokenReview,
} from '@kubernetes/client-node'

/**
 * A model of the generated client as JSON has it: times are strings, and names that the generator had to
 * escape (`_continue`, `_from`) are what the API calls them.
 */
export type Wire<T> = T extends Date
  ? string
  : T extends readonly (infer Item)[]
    ? Wire<Item>[]
    : T extends object
      ? { [Key in keyof T as Key extends `_${infer Name}` ? Name : Key]: Wire<T[Key]> }
      : T

export type ObjectMeta = Wire<V1ObjectMeta>

/** What every Kubernetes object has. */
export interface KubeObject {
  apiVersion?: string
  kind?: string
  metadata?: ObjectMeta
}

/** Names one kind of resource. `T` is the type of its objects and exists only for the compiler. */
export interface KubeResource<T extends KubeObject = KubeObject> {
  /** The API group; empty for the core group. */
  readonly group: string
  readonly version: string
  readonly plural: string
  readonly kind: string
  readonly namespaced: boolean
  /** Never present at run time: carries the object type. */
  readonly objectType?: T
}

/** Describes a resource, e.g. of a CRD: `defineResource<Gateway>('gateway.networking.k8s.io', 'v1', 'gateways', 'Gateway')`. */
export function defineResource<T extends KubeObject>(
  group: string,
  version: string,
  plural: string,
  kind: string,
  scope: 'namespaced' | 'cluster' = 'namespaced',
): KubeResource<T> {
  return { group, version, plural, kind, namespaced: scope === 'namespaced' }
}

/** An object of a kind that Istio or the Gateway API defines: what it says is read field by field, for nothing of it is sure. */
export interface PolicyResource extends KubeObject {
  spec?: unknown
  status?: unknown
}

export type Pod = Wire<V1Pod>
export type Namespace = Wire<V1Namespace>
export type Node = Wire<V1Node>
export type Service = Wire<V1Service>
export type ServiceAccount = Wire<V1ServiceAccount>
export type ConfigMap = Wire<V1ConfigMap>
export type Secret = Wire<V1Secret>
export type Event = Wire<CoreV1Event>
export type EndpointSlice = Wire<V1EndpointSlice>
export type DaemonSet = Wire<V1DaemonSet>
export type Lease = Wire<V1Lease>
export type TokenReview = Wire<V1TokenReview>
export type CertificateSigningRequest = Wire<V1CertificateSigningRequest>
export type ClusterTrustBundle = Wire<V1beta1ClusterTrustBundle>

export const PODS = defineResource<Pod>('', 'v1', 'pods', 'Pod')
export const NAMESPACES = defineResource<Namespace>('', 'v1', 'namespaces', 'Namespace', 'cluster')
export const NODES = defineResource<Node>('', 'v1', 'nodes', 'Node', 'cluster')
export const SERVICES = defineResource<Service>('', 'v1', 'services', 'Service')
export const SERVICE_ACCOUNTS = defineResource<ServiceAccount>(
  '',
  'v1',
  'serviceaccounts',
  'ServiceAccount',
)
export const CONFIG_MAPS = defineResource<ConfigMap>('', 'v1', 'configmaps', 'ConfigMap')
export const SECRETS = defineResource<Secret>('', 'v1', 'secrets', 'Secret')
export const CERTIFICATE_SIGNING_REQUESTS = defineResource<CertificateSigningRequest>(
  'certificates.k8s.io',
  'v1',
  'certificatesigningrequests',
  'CertificateSigningRequest',
  'cluster',
)
/** The kind in each version that says the same; a server has one of them, or none. The first that it has is the one to speak. */
export const CLUSTER_TRUST_BUNDLES = ['v1', 'v1beta1'].map((version) =>
  defineResource<ClusterTrustBundle>(
    'certificates.k8s.io',
    version,
    'clustertrustbundles',
    'ClusterTrustBundle',
    'cluster',
  ),
)
export const EVENTS = defineResource<Event>('', 'v1', 'events', 'Event')
export const ENDPOINT_SLICES = defineResource<EndpointSlice>(
  'discovery.k8s.io',
  'v1',
  'endpointslices',
  'EndpointSlice',
)
const SECURITY_GROUP = 'security.istio.io'
export const AUTHORIZATION_POLICIES = defineResource<PolicyResource>(
  SECURITY_GROUP,
  'v1',
  'authorizationpolicies',
  'AuthorizationPolicy',
)
export const PEER_AUTHENTICATIONS = defineResource<PolicyResource>(
  SECURITY_GROUP,
  'v1',
  'peerauthentications',
  'PeerAuthentication',
)
export const NETWORK_POLICIES = defineResource<PolicyResource>(
  'networking.k8s.io',
  'v1',
  'networkpolicies',
  'NetworkPolicy',
)
const GATEWAY_GROUP = 'gateway.networking.k8s.io'
export const GATEWAY_CLASSES = defineResource<PolicyResource>(
  GATEWAY_GROUP,
  'v1',
  'gatewayclasses',
  'GatewayClass',
  'cluster',
)
export const GATEWAYS = defineResource<PolicyResource>(GATEWAY_GROUP, 'v1', 'gateways', 'Gateway')
export const DEPLOYMENTS = defineResource('apps', 'v1', 'deployments', 'Deployment')
export const POD_DISRUPTION_BUDGETS = defineResource(
  'policy',
  'v1',
  'poddisruptionbudgets',
  'PodDisruptionBudget',
)
export const HORIZONTAL_POD_AUTOSCALERS = defineResource(
  'autoscaling',
  'v2',
  'horizontalpodautoscalers',
  'HorizontalPodAutoscaler',
)
export const HTTP_ROUTES = defineResource<PolicyResource>(
  GATEWAY_GROUP,
  'v1',
  'httproutes',
  'HTTPRoute',
)
export const GRPC_ROUTES = defineResource<PolicyResource>(
  GATEWAY_GROUP,
  'v1',
  'grpcroutes',
  'GRPCRoute',
)
/** In v1 only since the Gateway API 1.6, as are TLSRoutes since 1.5. */
export const TCP_ROUTES = defineResource<PolicyResource>(
  GATEWAY_GROUP,
  'v1',
  'tcproutes',
  'TCPRoute',
)
export const TLS_ROUTES = defineResource<PolicyResource>(
  GATEWAY_GROUP,
  'v1',
  'tlsroutes',
  'TLSRoute',
)
/** In v1 since the Gateway API 1.4. */
export const BACKEND_TLS_POLICIES = defineResource<PolicyResource>(
  GATEWAY_GROUP,
  'v1',
  'backendtlspolicies',
  'BackendTLSPolicy',
)
/** In v1 only since the Gateway API 1.6, which serves the older version, too: the same fields. */
export const REFERENCE_GRANTS = defineResource<PolicyResource>(
  GATEWAY_GROUP,
  'v1beta1',
  'referencegrants',
  'ReferenceGrant',
)
export const DAEMON_SETS = defineResource<DaemonSet>('apps', 'v1', 'daemonsets', 'DaemonSet')
export const LEASES = defineResource<Lease>('coordination.k8s.io', 'v1', 'leases', 'Lease')
export const TOKEN_REVIEWS = defineResource<TokenReview>(
  'authentication.k8s.io',
  'v1',
  'tokenreviews',
  'TokenReview',
  'cluster',
)

/** The URL path of a collection or, with a name, of one object or its subresource. */
export function resourcePath(
  resource: KubeResource,
  target: {
    readonly namespace?: string
    readonly name?: string
    readonly subresource?: string
  } = {},
): string {
  const root =
    resource.group === ''
      ? `/api/${resource.version}`
      : `/apis/${resource.group}/${resource.version}`
  const scope =
    resource.namespaced && target.namespace !== undefined
      ? `/namespaces/${encodeURIComponent(target.namespace)}`
      : ''
  const name = target.name === undefined ? '' : `/${encodeURIComponent(target.name)}`
  const subresource = target.subresource === undefined ? '' : `/${target.subresource}`
  return `${root}${scope}/${resource.plural}${name}${subresource}`
}

/** `namespace/name`, or the name alone for cluster-scoped objects: the key of an object within its resource. */
export function objectKey(object: KubeObject): string {
  const { namespace, name } = object.metadata ?? {}
  // Joined, because a template would keep both parts and the whole, and there is a key for each pod of a cluster.
  return namespace === undefined ? (name ?? '') : [namespace, name ?? ''].join('/')
}
