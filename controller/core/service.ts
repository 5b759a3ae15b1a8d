// SPDX-License-Identifier: Apache-2.0
// What the mesh needs of a Service, read and validated once.

import type { Service as KubeService } from '../../mesh/kube/resources.ts'
import { LONGEST_LIST } from '../../mesh/model/codec/kind.ts'
import { isIpv4Address } from '../../mesh/model/address.ts'
import type { AppProtocol, IpAddress, IpFamilies, ServiceKey } from '../../mesh/model/types.ts'
import { appProtocolOf } from './app-protocol.ts'
import type { Origin } from './origin.ts'
import { readWaypointUse, type WaypointUse } from '../gateway-api/waypoint-use.ts'
import { readSeen, type SeenObject } from '../istio-api/seen-object.ts'
import { ObjectReader, type Reading } from '../reading/object-reader.ts'
import { readTrafficDistribution, type TrafficDistribution } from './traffic-distribution.ts'

interface ServicePortFacts {
  readonly name: string
  readonly servicePort: number
  /** A number, or the name of a container port. */
  readonly target: number | string
  readonly appProtocol: AppProtocol
  /** At every node's address; undefined when there is none. */
  readonly nodePort: number | undefined
}

/** An address or port that a Service says is its own; others may say so, too. */
export interface Claim<T> {
  readonly value: T
  /** Where the Service says so. */
  readonly field: string
}

export interface ServiceFacts {
  readonly cluster: string
  readonly namespace: string
  readonly name: string
  /** The host names it is called by; each is a service of the mesh. */
  readonly hosts: readonly string[]
  /** When it was made, as Kubernetes writes it: texts in the order of time. */
  readonly createdAt: string
  readonly clusterIps: readonly Claim<IpAddress>[]
  readonly loadBalancerIps: readonly Claim<IpAddress>[]
  readonly externalIps: readonly Claim<IpAddress>[]
  readonly ports: readonly ServicePortFacts[]
  /** Said, or else those of its cluster IPs. */
  readonly ipFamilies: IpFamilies
  /** From outside, a node's address leads to endpoints of that node only. */
  readonly nodePortScope: 'cluster' | 'node'
  readonly isNodeLocal: boolean
  /** sessionAffinity: ClientIP. */
  readonly isSticky: boolean
  readonly publishesNotReady: boolean
  readonly trafficDistribution: TrafficDistribution | undefined
  /** Which state of it this is, for its status. */
  readonly seen: SeenObject
  /** What it says of waypoints. */
  readonly waypointUse: WaypointUse | undefined
}

/** Reads a Service. ExternalName Services are names only: nothing in the mesh has their address. */
export function readService(service: KubeService, origin: Origin): Reading<ServiceFacts> {
  const reader = new ObjectReader('Service', service.metadata)
  if (service.spec?.type === 'ExternalName') return { facts: undefined, problems: [] }
  const { metadata, spec } = service
  const annotations = reader.texts('metadata.annotations', metadata?.annotations)
  const labels = reader.texts('metadata.labels', metadata?.labels)
  const namespace = reader.text('metadata.namespace', metadata?.namespace)
  const name = reader.text('metadata.name', metadata?.name)
  const addresses = clusterIps(service, reader)
  // A headless Service has no address but its endpoints', and nobody leads on to it.
  const hasProxy = addresses.length > 0
  const facts: ServiceFacts = {
    cluster: origin.cluster,
    namespace,
    name,
    hosts: [`${name}.${namespace}.svc.${origin.clusterDomain}`],
    createdAt: reader.text('metadata.creationTimestamp', metadata?.creationTimestamp),
    clusterIps: addresses,
    loadBalancerIps: hasProxy ? loadBalancerIps(service, reader) : NO_CLAIMS,
    externalIps: hasProxy
      ? claims(reader, 'spec.externalIPs', reader.list('spec.externalIPs', spec?.externalIPs))
      : NO_CLAIMS,
    ports: readPorts(service, reader),
    ipFamilies: readIpFamilies(reader.list('spec.ipFamilies', spec?.ipFamilies), addresses),
    nodePortScope: spec?.externalTrafficPolicy === 'Local' ? 'node' : 'cluster',
    isNodeLocal: spec?.internalTrafficPolicy === 'Local',
    isSticky: spec?.sessionAffinity === 'ClientIP',
    publishesNotReady: spec?.publishNotReadyAddresses === true,
    trafficDistribution: readTrafficDistribution(reader, annotations, spec?.trafficDistribution),
    seen: readSeen(reader, service),
    waypointUse: readWaypointUse(reader, namespace, labels, annotations, origin),
  }
  return { facts, problems: reader.problems }
}

/** The key of a mesh service. */
export function serviceKeyOf(namespace: string, hostname: string): ServiceKey {
  return `${namespace}/${hostname}` as ServiceKey
}

/** The keys of all mesh services that a Service is. */
export function serviceKeys(service: ServiceFacts): readonly ServiceKey[] {
  return service.hosts.map((hostname) => serviceKeyOf(service.namespace, hostname))
}

const NO_CLAIMS: readonly never[] = []
/** Addresses in one list of a Service that count: each is looked up among all others' claims at each change. */
const MOST_CLAIMS = 256

function clusterIps(service: KubeService, reader: ObjectReader): readonly Claim<IpAddress>[] {
  const { clusterIP } = service.spec ?? {}
  const all = reader.list('spec.clusterIPs', service.spec?.clusterIPs)
  const texts = all.length === 0 && clusterIP !== undefined ? [clusterIP] : all
  // "None" is a headless service; empty is one that has not got its address yet.
  return claims(
    reader,
    'spec.clusterIPs',
    texts.filter((text) => text !== 'None' && text !== ''),
  )
}

/** What a load balancer has given the Service. One with a host name only is looked up by its callers. */
function loadBalancerIps(service: KubeService, reader: ObjectReader): readonly Claim<IpAddress>[] {
  if (service.spec?.type !== 'LoadBalancer') return NO_CLAIMS
  const field = 'status.loadBalancer.ingress'
  const addresses: Claim<IpAddress>[] = []
  const ingress = reader.list(field, service.status?.loadBalancer?.ingress)
  for (const [index, { ip, ipMode }] of ingress.entries()) {
    if (isFull(reader, field, addresses.length)) break
    // Proxy: the balancer itself must see the traffic, because it does more with it than pass it on.
    if (ip === undefined || ip === '' || ipMode === 'Proxy') continue
    addresses.push(...claims(reader, `${field}[${index}].ip`, [ip], false))
  }
  return addresses
}

function claims(
  reader: ObjectReader,
  field: string,
  texts: readonly string[],
  isList = true,
): readonly Claim<IpAddress>[] {
  const found = new Map<IpAddress, Claim<IpAddress>>()
  for (const [index, text] of texts.entries()) {
    if (isFull(reader, field, found.size)) break
    const place = isList ? `${field}[${index}]` : field
    const value = reader.ip(place, text)
    if (value !== undefined && !found.has(value)) found.set(value, { value, field: place })
  }
  return found.size === 0 ? NO_CLAIMS : [...found.values()]
}

function isFull(reader: ObjectReader, field: string, count: number): boolean {
  if (count < MOST_CLAIMS) return false
  reader.note(field, `has more than ${MOST_CLAIMS} addresses; the rest is left out`)
  return true
}

function readPorts(service: KubeService, reader: ObjectReader): readonly ServicePortFacts[] {
  const isHeadless = service.spec?.clusterIP === 'None'
  const ports: ServicePortFacts[] = []
  for (const [index, port] of reader.list('spec.ports', service.spec?.ports).entries()) {
    if (ports.length >= LONGEST_LIST) {
      reader.note('spec.ports', `has more than ${LONGEST_LIST} ports; the rest is left out`)
      break
    }
    if ((port.protocol ?? 'TCP') !== 'TCP') continue
    const field = `spec.ports[${index}]`
    const servicePort = reader.port(`${field}.port`, port.port)
    if (servicePort === undefined) continue
    const name = reader.text(`${field}.name`, port.name)
    // 0 and empty are how a client that writes every field says "the same port".
    const target = port.targetPort ?? 0
    const isSame = target === 0 || target === '' || (isHeadless && target === servicePort)
    const resolved = isSame ? servicePort : readTarget(reader, `${field}.targetPort`, target)
    if (resolved === undefined) continue
    const appProtocol = appProtocolOf(reader.text(`${field}.appProtocol`, port.appProtocol), name)
    // 0 is how a client that writes every field says that there is none.
    const nodePort = port.nodePort ? reader.port(`${field}.nodePort`, port.nodePort) : undefined
    ports.push({ name, servicePort, target: resolved, appProtocol, nodePort })
  }
  return ports
}

function readTarget(
  reader: ObjectReader,
  field: string,
  target: unknown,
): number | string | undefined {
  return typeof target === 'string' && !/^\d+$/.test(target)
    ? target
    : reader.port(field, Number(target))
}

function readIpFamilies(
  families: readonly string[],
  addresses: readonly Claim<IpAddress>[],
): IpFamilies {
  const isSaid = families.length > 0
  const isIpv4 = ({ value }: Claim<IpAddress>): boolean => isIpv4Address(value)
  const hasIpv4 = isSaid ? families.includes('IPv4') : addresses.some(isIpv4)
  const hasIpv6 = isSaid ? families.includes('IPv6') : !addresses.every(isIpv4)
  if (hasIpv4 && hasIpv6) return 'dual'
  if (hasIpv4) return 'ipv4'
  return hasIpv6 ? 'ipv6' : 'automatic'
}
