// SPDX-License-Identifier: Apache-2.0
// What the mesh needs of an EndpointSlice, read and validated once.

import type { EndpointSlice } from '../../mesh/kube/resources.ts'
import { SERVICE_NAME_LABEL } from '../../mesh/model/names.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import type { Origin } from './origin.ts'
import { ObjectReader, type Reading } from '../reading/object-reader.ts'

export interface SliceEndpoint {
  readonly addresses: readonly IpAddress[]
  readonly isHealthy: boolean
  readonly node: string
  readonly zone: string
  /** The pod that the endpoint is; undefined when it is none. */
  readonly podName: string | undefined
  /** That pod's Kubernetes UID; empty when it is not said. */
  readonly podUid: string
}

export interface SliceFacts {
  readonly cluster: string
  readonly namespace: string
  readonly name: string
  readonly serviceName: string
  /** Target port by name of the service's port. */
  readonly ports: ReadonlyMap<string, number>
  readonly endpoints: readonly SliceEndpoint[]
}

/** Reads an EndpointSlice. One of no service, or one that lists host names, is nothing to the mesh. */
export function readEndpointSlice(slice: EndpointSlice, { cluster }: Origin): Reading<SliceFacts> {
  const reader = new ObjectReader('EndpointSlice', slice.metadata)
  const labels = reader.texts('metadata.labels', slice.metadata?.labels)
  const serviceName = labels.get(SERVICE_NAME_LABEL) ?? ''
  if (serviceName === '' || slice.addressType === 'FQDN')
    return { facts: undefined, problems: reader.problems }
  const facts: SliceFacts = {
    cluster,
    namespace: reader.text('metadata.namespace', slice.metadata?.namespace),
    name: reader.text('metadata.name', slice.metadata?.name),
    serviceName,
    ports: readPorts(slice, reader),
    endpoints: readEndpoints(slice, reader),
  }
  return { facts, problems: reader.problems }
}

function readPorts(slice: EndpointSlice, reader: ObjectReader): ReadonlyMap<string, number> {
  const ports = new Map<string, number>()
  for (const [index, port] of reader.list('ports', slice.ports).entries()) {
    if ((port.protocol ?? 'TCP') !== 'TCP') continue
    const number = reader.port(`ports[${index}].port`, port.port)
    if (number !== undefined) ports.set(reader.text(`ports[${index}].name`, port.name), number)
  }
  return ports
}

function readEndpoints(slice: EndpointSlice, reader: ObjectReader): readonly SliceEndpoint[] {
  return reader.list('endpoints', slice.endpoints).map((endpoint, index): SliceEndpoint => {
    const field = `endpoints[${index}]`
    const addresses = reader
      .list(`${field}.addresses`, endpoint.addresses)
      .map((text, position) => reader.ip(`${field}.addresses[${position}]`, text))
      .filter((address) => address !== undefined)
      // A copy is as long as its content; what filter() makes has room for 17, for each pod of the cluster.
      .slice()
    const target = endpoint.targetRef?.kind === 'Pod' ? endpoint.targetRef : undefined
    return {
      addresses,
      // Kubernetes: an unknown readiness counts as ready.
      isHealthy: endpoint.conditions?.ready !== false,
      node: reader.text(`${field}.nodeName`, endpoint.nodeName),
      zone: reader.text(`${field}.zone`, endpoint.zone),
      podName: target === undefined ? target : reader.text(`${field}.targetRef.name`, target.name),
      podUid: reader.text(`${field}.targetRef.uid`, target?.uid),
    }
  })
}
