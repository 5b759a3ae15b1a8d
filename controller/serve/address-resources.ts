// SPDX-License-Identifier: Apache-2.0
// From changes of the mesh to changes of what the discovery server offers.

import { toBinary } from '@bufbuild/protobuf'
import { addressFromService, addressFromWorkload } from '../../mesh/model/convert-to-proto.ts'
import type { MeshChange } from '../../mesh/model/types.ts'
import { AddressSchema } from '../../mesh/proto/gen/workload_pb.js'
import type { ResourceInput } from '../../mesh/xds/resource-store.ts'

/** What to offer anew and what to withdraw. */
export interface OfferChange {
  readonly upserts: readonly ResourceInput[]
  readonly removed: readonly string[]
}

/** Encodes changes as address resources, each with its addresses (`network/ip`) as aliases. */
export function addressResources(changes: readonly MeshChange[]): OfferChange {
  // The last word on a name counts: one batch may take a resource away and bring it back.
  const upserts = new Map<string, ResourceInput>()
  const removed = new Set<string>()
  for (const change of changes) {
    const name = nameOf(change)
    upserts.delete(name)
    removed.delete(name)
    const resource = encode(change)
    if (resource === undefined) removed.add(name)
    else upserts.set(name, resource)
  }
  return { upserts: [...upserts.values()], removed: [...removed] }
}

function nameOf(change: MeshChange): string {
  switch (change.kind) {
    case 'workload':
      return change.workload.uid
    case 'workloadRemoved':
      return change.uid
    case 'service':
      return change.service.key
    case 'serviceRemoved':
      return change.key
  }
}

function encode(change: MeshChange): ResourceInput | undefined {
  switch (change.kind) {
    case 'workload': {
      const { uid, network, addresses, foundBy } = change.workload
      const own = foundBy === 'address' ? addresses : []
      const payload = toBinary(AddressSchema, addressFromWorkload(change.workload))
      return { name: uid, aliases: own.map((address) => `${network}/${address}`), payload }
    }
    case 'service': {
      const { key, addresses } = change.service
      const payload = toBinary(AddressSchema, addressFromService(change.service))
      const aliases = addresses.map(({ network, address }) => `${network}/${address}`)
      return { name: key, aliases, payload }
    }
    case 'workloadRemoved':
    case 'serviceRemoved':
      return undefined
  }
}
