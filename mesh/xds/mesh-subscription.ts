// SPDX-License-Identifier: Apache-2.0
// Turns what discovery says of addresses into changes of the mesh state.

import type { MeshChange, ServiceKey, WorkloadUid } from '../model/types.ts'
import { Subscription } from './subscription.ts'
import { ADDRESS, type AddressResource } from './types/address.ts'

/**
 * Follows all workloads and services.
 *
 * @example meshSubscription((changes) => state.apply(changes))
 */
export function meshSubscription(
  onChanges: (changes: readonly MeshChange[]) => void,
): Subscription<AddressResource> {
  // A removal carries only a name; this tells which kind it was.
  const serviceNames = new Set<string>()
  return new Subscription(ADDRESS, '*', (resources, removed) => {
    const changes: MeshChange[] = []
    // Removals first: a name that is both removed and sent in one response exists.
    for (const name of removed) {
      if (serviceNames.delete(name))
        changes.push({ kind: 'serviceRemoved', key: name as ServiceKey })
      else changes.push({ kind: 'workloadRemoved', uid: name as WorkloadUid })
    }
    for (const resource of resources) {
      changes.push(resource)
      if (resource.kind === 'service') serviceNames.add(resource.service.key)
    }
    onChanges(changes)
  })
}
