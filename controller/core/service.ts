// SPDX-License-Identifier: Apache-2.0
// What the mesh needs of a Service, read and validated once.

import type { Service as KubeService } from '../../mesh/kube/resources.ts'
import { LONGEST_LIST } from '../../mesh/model/codec/kind.ts'
import type { AppProtocol, IpAddress, IpFamilies, ServiceKey } from '../../mesh/model/types.ts'
import { appProtocolOf } from './app-protocol.ts'
import type { Origin } from './origin.ts'
import { ObjectReader, type Reading } from '../reading/object-reader.ts'
import { readTrafficDistribution, type TrafficDistribution } from './traffic-distribution.ts'

interface ServicePortFacts {
  readonly name: string
  readonly servicePort: number
  /** A number, or the name of a container port. */
  readonly target: number | string
  readonly appProtocol: AppProtocol
}

export interface ServiceFacts {
  readonly cluster: string
  readonly namespace: string
  readonly name: string
  /** The host names it is called by; each is a service of the mesh. */
  readonly hosts: readonly string[]
  /** Undefined when endpoints are given by EndpointSlices alone. */
  readonly selector: ReadonlyMap<string, string> | undefined
  readonly addresses: readonly IpAddress[]
  readonly ports: readonly ServicePortFacts[]
  readonly ipFamilies: IpFamilies
  readonly isNodeLocal: boolean
  /** sessionAffinity: ClientIP. */
  readonly isSticky: boolean
  readonly publishesNotReady: boolean
  readonly trafficDistribution: TrafficDistribution | undefined
}

/** Reads a Service. ExternalName Services are names only: nothing in the mesh has their address. */
export function readService(service: KubeService, origin: Origin): Reading<ServiceFacts> {
  const reader = new ObjectReader('Service', service.metadata)
  if (service.spec?.type === 'ExternalName') return { facts: undefined, problems: [] }
  const { metadata, spec } = service
  const selector = reader.texts('spec.selector', spec?.selector)
  const annotations = reader.texts('metadata.annotations', metadata?.annotations)
  const namespace = reader.text('metadata.namespace', metadata?.namespace)
  const name = reader.text('metadata.name', metadata?.name)
  const facts: ServiceFacts = {
    cluster: origin.cluster,
    namespace,
    name,
    hosts: [`${name}.${namespace}.svc.${origin.clusterDomain}`],
    selector: selector.size === 0 ? undefined : selector,
    addresses: clusterIps(service, reader),
    ports: readPorts(service, reader),
    ipFamilies: readIpFamilies(reader.list('spec.ipFamilies', spec?.ipFamilies)),
    isNodeLocal: spec?.internalTrafficPolicy === 'Local',
    isSticky: spec?.sessionAffinity === 'ClientIP',
    publishesNotReady: spec?.publishNotReadyAddresses === true,
    trafficDistribution: readTrafficDistribution(reader, annotations, spec?.trafficDistribution),
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

function clusterIps(service: KubeService, reader: ObjectReader): readonly IpAddress[] {
  const { clusterIP } = service.spec ?? {}
  const all = reader.list('spec.clusterIPs', service.spec?.clusterIPs)
  const texts = all.length === 0 && clusterIP !== undefined ? [clusterIP] : all
  const addresses = texts
    // "None" is a headless service; empty is one that has not got its address yet.
    .filter((text) => text !== 'None' && text !== '')
    .map((text, index) => reader.ip(`spec.clusterIPs[${index}]`, text))
  return [...new Set(addresses.filter((address) => address !== undefined))]
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
    ports.push({ name, servicePort, target: resolved, appProtocol })
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

function readIpFamilies(families: readonly string[]): IpFamilies {
  const hasIpv4 = families.includes('IPv4')
  const hasIpv6 = families.includes('IPv6')
  if (hasIpv4 && hasIpv6) return 'dual'
  if (hasIpv4) return 'ipv4'
  return hasIpv6 ? 'ipv6' : 'automatic'
}
