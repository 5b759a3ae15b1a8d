// SPDX-License-Identifier: Apache-2.0
// What a mesh state remembers of addresses that are nobody's any more, as a part of the plain data that a state is written as (wire-state.ts): who reads it
// decides as who wrote it does.

import type { FormerMemory } from '../model/former-addresses.ts'
import type { FormerHolder } from '../model/former-holders.ts'
import type { Service, ServiceKey, Workload } from '../model/types.ts'
import { err, ok, type Result } from '../result.ts'
import { formatResourceProblem } from './resource-type.ts'
import { ADDRESS, type AddressResource } from './types/address.ts'

interface WireHolder<K> {
  readonly key: K
  /** Of the resource, which is its last holder. */
  readonly name: string
  /** Base64. */
  readonly resource: string
  readonly goneForMs: number
}

export interface WireMemory {
  readonly workloads: readonly WireHolder<string>[]
  readonly services: readonly WireHolder<string>[]
  readonly nodePorts: readonly WireHolder<number>[]
  /** Services that have lost an endpoint of the mesh. */
  readonly endpoints: readonly { readonly service: string; readonly goneForMs: number }[]
}

/** All that is remembered. */
export function encodeMemory(memory: FormerMemory): WireMemory {
  const ofService = (service: Service): AddressResource => ({ kind: 'service', service })
  return {
    workloads: encode(memory.workloads, (workload) => ({ kind: 'workload', workload })),
    services: encode(memory.services, ofService),
    nodePorts: encode(memory.nodePorts, ofService),
    endpoints: memory.endpoints.map(([service, , goneForMs]) => ({ service, goneForMs })),
  }
}

/** The same again; the error names what cannot be read. */
export function decodeMemory(wire: WireMemory): Result<FormerMemory, string> {
  const problems: string[] = []
  const workload = (address: AddressResource): Workload | undefined =>
    address.kind === 'workload' ? address.workload : undefined
  const service = (address: AddressResource): Service | undefined =>
    address.kind === 'service' ? address.service : undefined
  const memory: FormerMemory = {
    workloads: decode(wire.workloads, workload, problems),
    services: decode(wire.services, service, problems),
    nodePorts: decode(wire.nodePorts, service, problems),
    endpoints: wire.endpoints.map((each) => [each.service as ServiceKey, true, each.goneForMs]),
  }
  const [first] = problems
  return first === undefined ? ok(memory) : err(first)
}

function encode<K, V>(
  holders: readonly FormerHolder<K, V>[],
  asAddress: (holder: V) => AddressResource,
): WireHolder<K>[] {
  return holders.map(([key, holder, goneForMs]) => {
    const address = asAddress(holder)
    const resource = Buffer.from(ADDRESS.encode(address)).toString('base64')
    return { key, name: ADDRESS.name(address), resource, goneForMs }
  })
}

function decode<K, V>(
  holders: readonly WireHolder<K>[],
  read: (address: AddressResource) => V | undefined,
  problems: string[],
): FormerHolder<K, V>[] {
  return holders.flatMap(({ key, name, resource, goneForMs }): FormerHolder<K, V>[] => {
    const decoded = ADDRESS.decode(name, Buffer.from(resource, 'base64'))
    if (!decoded.ok) {
      problems.push(formatResourceProblem(decoded.error))
      return []
    }
    const holder = read(decoded.value)
    return holder === undefined ? [] : [[key, holder, goneForMs]]
  })
}
