// SPDX-License-Identifier: Apache-2.0
// The mesh model: what agents, waypoints and the controller all mean by workload and service.
// It follows istio.workload (WDS) field by field; the wire form lives in mesh/proto, the indexes in mesh-state.ts.

/** An IP address in canonical text: IPv4 dotted, IPv6 compressed lower case; v4-mapped IPv6 is written as IPv4. */
export type IpAddress = string & { readonly __brand: 'IpAddress' }

/** `spiffe://<trust domain>/ns/<namespace>/sa/<service account>` */
export type SpiffeId = string & { readonly __brand: 'SpiffeId' }

/** `metadata.uid` of a Kubernetes Pod: one pod for ever, unlike its name and addresses. */
export type PodUid = string & { readonly __brand: 'PodUid' }

/** Key of a workload, `<cluster>//Pod/<namespace>/<name>` for pods; survives IP reuse. */
export type WorkloadUid = string & { readonly __brand: 'WorkloadUid' }

/** Key of a service, `<namespace>/<hostname>`. */
export type ServiceKey = string & { readonly __brand: 'ServiceKey' }

/** An IP address and TCP port as a socket API takes them. */
export interface SocketAddress {
  readonly address: IpAddress
  readonly port: number
}

export type TunnelProtocol = 'none' | 'hbone'
export type WorkloadType = 'deployment' | 'cronjob' | 'pod' | 'job'
export type HealthStatus = 'healthy' | 'unhealthy'
/** How callers find a workload: by its own address, or only as an endpoint of a service. */
export type FoundBy = 'address' | 'service'
export type AppProtocol = 'unknown' | 'http1' | 'http2' | 'grpc' | 'tcp' | 'tls'

export interface Locality {
  readonly region: string
  readonly zone: string
  readonly subzone: string
}

export interface WorkloadPort {
  readonly servicePort: number
  readonly targetPort: number
  readonly appProtocol: AppProtocol
}

export interface GatewayAddress {
  readonly destination:
    | { readonly kind: 'hostname'; readonly namespace: string; readonly hostname: string }
    | { readonly kind: 'address'; readonly network: string; readonly address: IpAddress }
  readonly hbonePort: number
}

/** One pod, VM or external endpoint. */
export interface Workload {
  readonly uid: WorkloadUid
  readonly name: string
  readonly namespace: string
  readonly addresses: readonly IpAddress[]
  readonly hostname: string
  readonly network: string
  readonly tunnelProtocol: TunnelProtocol
  readonly trustDomain: string
  readonly serviceAccount: string
  readonly node: string
  readonly canonicalName: string
  readonly canonicalRevision: string
  readonly workloadType: WorkloadType
  readonly workloadName: string
  readonly nativeTunnel: boolean
  readonly services: ReadonlyMap<ServiceKey, readonly WorkloadPort[]>
  readonly authorizationPolicies: readonly string[]
  readonly status: HealthStatus
  readonly clusterId: string
  readonly locality: Locality
  /**
   * 'service' when its address is not its own to be found by: a node's, which all host-network pods there share, or
   * whatever an EndpointSlice lists. (The wire says so by network_mode HOST_NETWORK.)
   */
  readonly foundBy: FoundBy
  readonly waypoint: GatewayAddress | undefined
  readonly networkGateway: GatewayAddress | undefined
  readonly capacity: number
}

export interface ServicePort {
  readonly servicePort: number
  readonly targetPort: number
  readonly appProtocol: AppProtocol
}

export type RoutingScope = 'region' | 'zone' | 'subzone' | 'node' | 'cluster' | 'network'

export interface LoadBalancing {
  readonly routingPreference: readonly RoutingScope[]
  readonly mode: 'standard' | 'strict' | 'failover' | 'passthrough'
  readonly healthPolicy: 'onlyHealthy' | 'allowAll'
}

export type IpFamilies = 'automatic' | 'ipv4' | 'ipv6' | 'dual'

/** One Kubernetes Service or ServiceEntry host. */
export interface Service {
  readonly key: ServiceKey
  readonly name: string
  readonly namespace: string
  readonly hostname: string
  readonly addresses: readonly {
    readonly network: string
    readonly address: IpAddress
    readonly prefixLength: number | undefined
  }[]
  readonly ports: readonly ServicePort[]
  readonly subjectAltNames: readonly string[]
  readonly waypoint: GatewayAddress | undefined
  readonly loadBalancing: LoadBalancing
  readonly ipFamilies: IpFamilies
  readonly canonical: boolean
}

/** One change of the mesh state; the unit that travels by xDS and from the agent's main thread to its workers. */
export type MeshChange =
  | { readonly kind: 'workload'; readonly workload: Workload }
  | { readonly kind: 'workloadRemoved'; readonly uid: WorkloadUid }
  | { readonly kind: 'service'; readonly service: Service }
  | { readonly kind: 'serviceRemoved'; readonly key: ServiceKey }
