// SPDX-License-Identifier: Apache-2.0
// Workloads and services as resources of discovery (istio.workload.Address).

import { optional } from '../../model/codec/kind.ts'
import { field, record } from '../../model/codec/record.ts'
import { SERVICE } from '../../model/service.ts'
import type { MeshChange, Service, Workload } from '../../model/types.ts'
import { WORKLOAD } from '../../model/workload.ts'
import { err, ok, type Result } from '../../result.ts'
import { excerpt } from '../../telemetry/excerpt.ts'
import type { ResourceProblem, ResourceType } from '../resource-type.ts'

/** A workload or a service of the mesh. */
export type AddressResource = Extract<MeshChange, { readonly kind: 'workload' | 'service' }>

/**
 * An object of Kubernetes has at most 1.5 MiB, and no resource is made of more than a few: a larger one is not read, so that
 * a hostile one costs little.
 */
const MAX_RESOURCE_BYTES = 2 * 1024 * 1024

interface WireAddress {
  readonly workload: Workload | undefined
  readonly service: Service | undefined
}

// Problems are told by the fields of what is inside.
const WIRE = record<WireAddress>({
  workload: field('', 1, optional(WORKLOAD)),
  service: field('', 2, optional(SERVICE)),
})

/** Workloads and services, named by uid and key; a workload that is found by its address answers to that, too. */
export const ADDRESS: ResourceType<AddressResource> = {
  typeUrl: 'type.googleapis.com/istio.workload.Address',
  name: (resource) => (resource.kind === 'workload' ? resource.workload.uid : resource.service.key),
  aliases: (resource) => {
    if (resource.kind === 'service')
      return resource.service.addresses.map(({ network, address }) => `${network}/${address}`)
    const { network, addresses, foundBy } = resource.workload
    return foundBy === 'address' ? addresses.map((address) => `${network}/${address}`) : []
  },
  encode: (resource) =>
    WIRE.encode(
      resource.kind === 'workload'
        ? { workload: resource.workload, service: undefined }
        : { workload: undefined, service: resource.service },
    ),
  decode,
}

function decode(name: string, bytes: Uint8Array): Result<AddressResource, ResourceProblem> {
  const refuse = (at: string, reason: string): Result<never, ResourceProblem> =>
    // It goes into logs and back to the control plane.
    err({ resource: excerpt(name), field: excerpt(at), reason: excerpt(reason) })
  if (bytes.length > MAX_RESOURCE_BYTES)
    return refuse('resource', `has ${bytes.length} bytes, more than ${MAX_RESOURCE_BYTES}`)
  const read = WIRE.decode(bytes)
  if (!read.ok) {
    if (read.error.field !== '') return refuse(read.error.field, read.error.reason)
    return refuse('resource', `is not an Address message: it ${read.error.reason}`)
  }
  const { workload, service } = read.value
  if (workload !== undefined && service !== undefined)
    return refuse('type', 'is both a workload and a service')
  if (workload !== undefined)
    return workload.uid === name
      ? ok({ kind: 'workload', workload })
      : refuse('uid', `is "${workload.uid}", not the resource's name`)
  if (service === undefined) return refuse('type', 'is neither a workload nor a service')
  return service.key === name
    ? ok({ kind: 'service', service })
    : refuse('hostname', `makes the key "${service.key}", not the resource's name`)
}
