// SPDX-License-Identifier: Apache-2.0
// From changes of the mesh to changes of what the discovery server offers.

import type { MeshChange } from '../../mesh/model/types.ts'
import { ADDRESS, type AddressResource } from '../../mesh/xds/types/address.ts'

/** What to offer anew and what to withdraw. */
export interface OfferChange {
  readonly upserts: readonly AddressResource[]
  readonly removed: readonly string[]
}

/** Sorts changes into resources and names of removed ones. */
export function addressResources(changes: readonly MeshChange[]): OfferChange {
  // The last word on a name counts: one batch may take a resource away and bring it back.
  const upserts = new Map<string, AddressResource>()
  const removed = new Set<string>()
  for (const change of changes) {
    if (change.kind === 'workload' || change.kind === 'service') {
      const name = ADDRESS.name(change)
      removed.delete(name)
      upserts.set(name, change)
    } else {
      const name = change.kind === 'workloadRemoved' ? change.uid : change.key
      upserts.delete(name)
      removed.add(name)
    }
  }
  return { upserts: [...upserts.values()], removed: [...removed] }
}
