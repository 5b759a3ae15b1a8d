// SPDX-License-Identifier: Apache-2.0
// Whose an address is when several say that it is theirs. Anybody may write any address into a Service (CVE-2020-8554): a
// claim never takes one from somebody who has it by right. Pure.

import { isSpecial } from '../../mesh/model/address.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { type ObjectProblem, ObjectReader } from '../reading/object-reader.ts'
import type { NodeFacts } from './node.ts'
import { type ObjectKey, objectKey } from './origin.ts'
import type { PodFacts } from './pod.ts'
import type { Claim, ServiceFacts } from './service.ts'

/** Who says that an address is his. */
export interface Claimants {
  readonly clusterIps: readonly ServiceFacts[]
  /** By load balancers and external IPs. */
  readonly external: readonly ServiceFacts[]
  readonly pods: readonly PodFacts[]
  readonly nodes: readonly NodeFacts[]
}

/** What Services do not get of an address that they claim as an external one: why not, by the Service's key. */
export interface Verdict {
  readonly address: IpAddress
  readonly refused: ReadonlyMap<ObjectKey, string>
}

/** What a Service says is its own and is not. */
export interface LostClaims {
  readonly addresses: ReadonlySet<IpAddress>
  readonly nodePorts: ReadonlySet<number>
  readonly problems: readonly ObjectProblem[]
}

/** The external addresses of a Service, with what is one of its own left out. */
export function externalClaims(service: ServiceFacts): readonly Claim<IpAddress>[] {
  const { clusterIps, loadBalancerIps, externalIps } = service
  if (loadBalancerIps.length + externalIps.length === 0) return []
  const known = new Set(clusterIps.map(({ value }) => value))
  return [...loadBalancerIps, ...externalIps].filter(({ value }) => {
    if (known.has(value)) return false
    known.add(value)
    return true
  })
}

/**
 * Who of those that claim an external address does not get it. Cluster IPs, pods and nodes have theirs by right; then come
 * load balancers, then external IPs, of equals the oldest. Two Services with different ports may share one.
 */
export function judgeExternal(address: IpAddress, claimants: Claimants): Verdict {
  const { external } = claimants
  // The API server takes none such as an external IP, but of whoever writes the status of a load balancer it does.
  const owner = isSpecial(address)
    ? 'it means something else on every host'
    : ownerByRight(claimants)
  const refused = new Map<ObjectKey, string>()
  const takenPorts = new Map<number, ServiceFacts>()
  const order = external.map((service) => ({ service, rank: rankOf(service, address) }))
  order.sort((left, right) => left.rank - right.rank || byAge(left.service, right.service))
  for (const { service } of order) {
    const taken = service.ports.find(({ servicePort }) => takenPorts.has(servicePort))
    const holder = taken && takenPorts.get(taken.servicePort)
    const reason =
      owner ??
      (holder && `its port ${taken?.servicePort} belongs to Service ${nameOf(holder)} already`)
    if (reason !== undefined) refused.set(keyOf(service), reason)
    else for (const { servicePort } of service.ports) takenPorts.set(servicePort, service)
  }
  return { address, refused }
}

/**
 * What a Service does not get of what it claims.
 *
 * @param verdictOn of each of its external addresses
 * @param rivals who has one of its cluster IPs or node ports, too; itself among them
 */
export function lostClaims(
  service: ServiceFacts,
  verdictOn: (address: IpAddress) => Verdict | undefined,
  rivals: {
    readonly forClusterIp: (address: IpAddress) => readonly ServiceFacts[]
    readonly forNodePort: (nodePort: number) => readonly ServiceFacts[]
  },
): LostClaims | undefined {
  const addresses = new Set<IpAddress>()
  const nodePorts = new Set<number>()
  const reader = new ObjectReader('Service', service)
  const tell = (field: string, what: string, why: string): void =>
    reader.note(field, `${what} does not lead to this Service: ${why}`)
  for (const { value, field } of service.clusterIps) {
    const older = olderOf(service, rivals.forClusterIp(value))
    if (older === undefined) continue
    addresses.add(value)
    tell(field, value, `it is the cluster IP of the older Service ${nameOf(older)}`)
  }
  for (const { value, field } of externalClaims(service)) {
    const why = verdictOn(value)?.refused.get(keyOf(service))
    if (why === undefined) continue
    addresses.add(value)
    tell(field, value, why)
  }
  for (const { nodePort, servicePort } of service.ports) {
    const older = nodePort && olderOf(service, rivals.forNodePort(nodePort))
    if (nodePort === undefined || !older) continue
    nodePorts.add(nodePort)
    const why = `it is one of the older Service ${nameOf(older)}`
    tell(`spec.ports[port=${servicePort}].nodePort`, `node port ${nodePort}`, why)
  }
  return reader.problems.length === 0
    ? undefined
    : { addresses, nodePorts, problems: reader.problems }
}

/** The key of a node port, to find who claims it: each cluster gives out its own. */
export function nodePortKey({ cluster }: { readonly cluster: string }, nodePort: number): string {
  return `${cluster}/${nodePort}`
}

function ownerByRight({ clusterIps, pods, nodes }: Claimants): string | undefined {
  const [service] = clusterIps
  if (service !== undefined) return `it is the cluster IP of Service ${nameOf(service)}`
  const pod = pods.find(({ template }) => !template.isHostNetwork)
  if (pod !== undefined) return `it is the address of Pod ${pod.template.namespace}/${pod.name}`
  const [node] = nodes
  return node && `it is the address of Node ${node.name}`
}

/** A load balancer's word comes before a Service's own, which anybody may write who may write Services. */
function rankOf({ loadBalancerIps }: ServiceFacts, address: IpAddress): number {
  return loadBalancerIps.some(({ value }) => value === address) ? 0 : 1
}

/** One that is older than this Service and has the same right: of the same cluster, for each cluster gives out its own. */
function olderOf(service: ServiceFacts, rivals: readonly ServiceFacts[]): ServiceFacts | undefined {
  return rivals.find((each) => each.cluster === service.cluster && byAge(each, service) < 0)
}

function byAge(left: ServiceFacts, right: ServiceFacts): number {
  return (
    compare(left.createdAt, right.createdAt) ||
    compare(left.namespace, right.namespace) ||
    compare(left.name, right.name) ||
    compare(left.cluster, right.cluster)
  )
}

function compare(left: string, right: string): number {
  if (left === right) return 0
  return left < right ? -1 : 1
}

function keyOf({ cluster, namespace, name }: ServiceFacts): ObjectKey {
  return objectKey(cluster, namespace, name)
}

function nameOf({ namespace, name }: ServiceFacts): string {
  return `${namespace}/${name}`
}
