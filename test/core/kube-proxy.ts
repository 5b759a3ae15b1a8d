// SPDX-License-Identifier: Apache-2.0
// Where kube-proxy leads a connection of a pod, written from Kubernetes' documentation of Services, EndpointSlices and traffic
// policies: slowly, from the objects, knowing nothing of the mesh. What the mesh does otherwise on purpose is marked.

import type { InputObjects } from '../../controller/core/input.ts'

type Pod = InputObjects['Pod']
type Service = InputObjects['Service']
type Slice = InputObjects['EndpointSlice']
type Endpoint = NonNullable<Slice['endpoints']>[number]

export interface Objects {
  readonly pods: readonly Pod[]
  readonly services: readonly Service[]
  readonly slices: readonly Slice[]
  readonly nodes: readonly InputObjects['Node'][]
}

/** The endpoints, `address port`, that the connection may get, in order; undefined when no Service has this address and port. */
export function kubeProxy(
  objects: Objects,
  clientNode: string,
  address: string,
  port: number,
): readonly string[] | undefined {
  const own = oldest(objects.services.filter((each) => clusterIpsOf(each).includes(address)))
  if (own !== undefined)
    // The mesh: a cluster IP belongs to its Service with all its ports. kube-proxy rejects such since 1.29, too.
    return backends(objects, own, address, port, isLocal(own) ? clientNode : undefined)
  if (!hasOwner(objects, address)) {
    const claims = objects.services.filter((each) => hasPort(each, port))
    // From within a cluster an external address has no traffic policy.
    const holder =
      oldest(claims.filter((each) => balancersOf(each).includes(address))) ??
      oldest(claims.filter((each) => externalOf(each).includes(address)))
    if (holder !== undefined) return backends(objects, holder, address, port, undefined)
  }
  const node = objects.nodes.find((each) => nodeAddresses(each).includes(address))
  const behind = oldest(
    objects.services.filter((each) => each.spec?.ports?.some(({ nodePort }) => nodePort === port)),
  )
  if (node === undefined || behind === undefined) return undefined
  // A pod that calls its own node is led as if it came back from outside of the cluster, to any endpoint.
  const isOfNode =
    behind.spec?.externalTrafficPolicy === 'Local' && node.metadata?.name !== clientNode
  const onlyNode = isOfNode ? node.metadata?.name : undefined
  return backends(objects, behind, address, 80, onlyNode)
}

/** Ready endpoints, or else those that terminate and serve; all of the address's family. */
function backends(
  objects: Objects,
  service: Service,
  address: string,
  port: number,
  onlyNode: string | undefined,
): readonly string[] {
  const isSix = address.includes(':')
  // The mesh: where a Service has nobody of this family, somebody of the other is better than nobody.
  for (const family of isSix ? ['IPv6', 'IPv4'] : ['IPv4', 'IPv6'])
    for (const isFit of [isReady, isLastResort]) {
      if (service.spec?.ipFamilies?.includes(family) !== true) continue
      const found = listed(objects, service, family, port).filter(
        ({ endpoint }) =>
          isFit(endpoint) && (onlyNode === undefined || endpoint.nodeName === onlyNode),
      )
      if (found.length > 0) return [...new Set(found.map(({ target }) => target))].sort()
    }
  return []
}

function listed(
  objects: Objects,
  service: Service,
  family: string,
  port: number,
): { endpoint: Endpoint; target: string }[] {
  const names = service.spec?.ports?.filter((each) => each.port === port).map(({ name }) => name)
  return objects.slices
    .filter(({ addressType, metadata }) => {
      const of = metadata?.labels?.['kubernetes.io/service-name']
      return addressType === family && of === service.metadata?.name
    })
    .flatMap((slice) => {
      // A name that comes twice in a slice counts the second time.
      const number = slice.ports?.findLast(({ name }) => names?.includes(name) === true)?.port
      return (slice.endpoints ?? [])
        .filter((endpoint) => number !== undefined && isKnown(objects, endpoint))
        .map((endpoint) => ({ endpoint, target: `${endpoint.addresses[0]} ${number}` }))
    })
}

/** The mesh: an endpoint that says it is a pod waits for that pod, unless another has its address. */
function isKnown({ pods }: Objects, { addresses: [address], targetRef }: Endpoint): boolean {
  if (targetRef === undefined) return true
  const owners = pods.filter(
    ({ status }) =>
      status?.phase !== 'Failed' && status?.podIPs?.some(({ ip }) => ip === address) === true,
  )
  if (owners.some(({ spec }) => spec?.hostNetwork !== true)) return true
  return targetRef.uid === undefined
    ? owners.length > 0
    : owners.some(({ metadata }) => metadata?.uid === targetRef.uid)
}

/** The mesh: an external address is taken from nobody who has it by right. */
function hasOwner({ pods, nodes }: Objects, address: string): boolean {
  return (
    nodes.some((each) => nodeAddresses(each).includes(address)) ||
    pods.some(
      ({ spec, status }) =>
        spec?.hostNetwork !== true &&
        status?.phase !== 'Failed' &&
        status?.podIPs?.some(({ ip }) => ip === address) === true,
    )
  )
}

const isReady = ({ conditions }: Endpoint): boolean => conditions?.ready !== false
const isLastResort = ({ conditions }: Endpoint): boolean =>
  conditions?.serving !== false && conditions?.terminating === true

const isHeadless = ({ spec }: Service): boolean => spec?.clusterIP === 'None'
const clusterIpsOf = (service: Service): readonly string[] =>
  isHeadless(service) ? [] : (service.spec?.clusterIPs ?? [])
const externalOf = (service: Service): readonly string[] =>
  isHeadless(service) ? [] : (service.spec?.externalIPs ?? [])
const balancersOf = (service: Service): readonly string[] =>
  isHeadless(service)
    ? []
    : (service.status?.loadBalancer?.ingress ?? []).flatMap(({ ip }) => ip ?? [])
const nodeAddresses = (node: InputObjects['Node']): readonly string[] =>
  (node.status?.addresses ?? []).map(({ address }) => address)
const isLocal = ({ spec }: Service): boolean => spec?.internalTrafficPolicy === 'Local'
const hasPort = ({ spec }: Service, port: number): boolean =>
  spec?.ports?.some((each) => each.port === port) === true

function oldest(services: readonly Service[]): Service | undefined {
  const age = ({ metadata }: Service): string =>
    `${String(metadata?.creationTimestamp)} ${metadata?.name}`
  return [...services].sort((left, right) => (age(left) < age(right) ? -1 : 1))[0]
}
