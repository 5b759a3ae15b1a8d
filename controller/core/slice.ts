// SPDX-License-Identifier: Apache-2.0
// What the mesh needs of an EndpointSlice, read and validated once.

import type { EndpointSlice } from '../../mesh/kube/resources.ts'
import { familyOf, isSpecial } from '../../mesh/model/address.ts'
import { SERVICE_NAME_LABEL } from '../../mesh/model/names.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import type { Origin } from './origin.ts'
import { ObjectReader, type Reading } from '../reading/object-reader.ts'

/** `leaving`: it terminates and still serves, which will do when the Service has nothing better. */
export type Fitness = 'ready' | 'leaving' | 'unfit'

export interface SliceEndpoint {
  readonly address: IpAddress
  readonly fitness: Fitness
  readonly node: string
  readonly zone: string
  /** The pod that the endpoint says it is; undefined when it says none. */
  readonly podName: string | undefined
  /** That pod's Kubernetes UID; empty when it is not said. */
  readonly podUid: string
}

export type AddressFamily = 'ipv4' | 'ipv6'

export interface SliceFacts {
  readonly cluster: string
  readonly namespace: string
  readonly name: string
  readonly serviceName: string
  readonly family: AddressFamily
  /** Target port by name of the service's port. */
  readonly ports: ReadonlyMap<string, number>
  /** In the order of their addresses. */
  readonly endpoints: readonly SliceEndpoint[]
}

const FAMILIES: ReadonlyMap<string, AddressFamily> = new Map([
  ['IPv4', 'ipv4'],
  ['IPv6', 'ipv6'],
])

/** Reads an EndpointSlice. One of no Service, or one that lists host names, is nothing to the mesh. */
export function readEndpointSlice(slice: EndpointSlice, { cluster }: Origin): Reading<SliceFacts> {
  const reader = new ObjectReader('EndpointSlice', slice.metadata)
  const labels = reader.texts('metadata.labels', slice.metadata?.labels)
  const serviceName = labels.get(SERVICE_NAME_LABEL) ?? ''
  if (serviceName === '') return { facts: undefined, problems: reader.problems }
  const family = FAMILIES.get(slice.addressType)
  if (family === undefined) {
    reader.note(
      'addressType',
      `${JSON.stringify(slice.addressType)} is neither IPv4 nor IPv6: its endpoints are left out, as kube-proxy leaves them out`,
    )
    return { facts: undefined, problems: reader.problems }
  }
  const facts: SliceFacts = {
    cluster,
    namespace: reader.text('metadata.namespace', slice.metadata?.namespace),
    name: reader.text('metadata.name', slice.metadata?.name),
    serviceName,
    family,
    ports: readPorts(slice, reader),
    endpoints: readEndpoints(slice, family, reader),
  }
  return { facts, problems: reader.problems }
}

/** The endpoints of this address, found by halving: a slice of a thousand is looked at once for each of its pods. */
export function* endpointsAt(
  endpoints: readonly SliceEndpoint[],
  address: IpAddress,
): Iterable<SliceEndpoint> {
  let [low, high] = [0, endpoints.length]
  while (low < high) {
    const middle = (low + high) >> 1
    const each = endpoints[middle]
    if (each !== undefined && each.address < address) low = middle + 1
    else high = middle
  }
  for (let each = endpoints[low]; each?.address === address; each = endpoints[low]) {
    yield each
    low += 1
  }
}

function readPorts(slice: EndpointSlice, reader: ObjectReader): ReadonlyMap<string, number> {
  const ports = new Map<string, number>()
  for (const [index, port] of reader.list('ports', slice.ports).entries()) {
    if ((port.protocol ?? 'TCP') !== 'TCP') continue
    // No number means all ports, which is not for a Service; kube-proxy leaves it out, too.
    const number = reader.port(`ports[${index}].port`, port.port)
    if (number !== undefined) ports.set(reader.text(`ports[${index}].name`, port.name), number)
  }
  return ports
}

function readEndpoints(
  slice: EndpointSlice,
  family: AddressFamily,
  reader: ObjectReader,
): readonly SliceEndpoint[] {
  const endpoints: SliceEndpoint[] = []
  for (const [index, endpoint] of reader.list('endpoints', slice.endpoints).entries()) {
    const field = `endpoints[${index}]`
    // Kubernetes gives no meaning to further addresses, and kube-proxy looks at the first alone.
    const [text] = reader.list(`${field}.addresses`, endpoint.addresses)
    if (text === undefined) continue
    const address = reader.ip(`${field}.addresses[0]`, text)
    if (address === undefined) continue
    if (`ipv${familyOf(address)}` !== family) {
      reader.note(`${field}.addresses[0]`, `${address} is not of the slice's addressType`)
      continue
    }
    // Kubernetes takes none such. At it would be whoever dials: a node, or the service that gives nodes their credentials.
    if (isSpecial(address)) {
      reader.note(`${field}.addresses[0]`, `${address} means something else on every host`)
      continue
    }
    const target = endpoint.targetRef?.kind === 'Pod' ? endpoint.targetRef : undefined
    endpoints.push({
      address,
      fitness: fitnessOf(endpoint.conditions ?? {}),
      node: reader.text(`${field}.nodeName`, endpoint.nodeName),
      zone: reader.text(`${field}.zone`, endpoint.zone),
      podName: target && reader.text(`${field}.targetRef.name`, target.name),
      podUid: reader.text(`${field}.targetRef.uid`, target?.uid),
    })
  }
  return endpoints.sort((left, right) => (left.address < right.address ? -1 : 1))
}

/** Kubernetes: what is not said is ready, serving, and not terminating. */
function fitnessOf(conditions: {
  readonly ready?: boolean | null
  readonly serving?: boolean | null
  readonly terminating?: boolean | null
}): Fitness {
  if (conditions.ready !== false) return 'ready'
  return conditions.serving !== false && conditions.terminating === true ? 'leaving' : 'unfit'
}
