// SPDX-License-Identifier: Apache-2.0
// What a namespace's workloads have to know of policies, in one piece: a workload reads this, and then what selects its own labels.
// Made for each namespace, so that a pod keeps one note of what it has read and not one for each question.

import type { Fetch } from '../../mesh/collections/index.ts'
import { oldest } from '../../mesh/policy/peer-authentication.ts'
import type { PlacedPeer } from './peer-placement.ts'
import { type Area, type PlacedPolicy, WHOLE_MESH } from './placed-policy.ts'
import type { Selection, Shape } from './selection.ts'

/** The same for all workloads of a namespace. */
export interface Surroundings {
  /** Of AuthorizationPolicies with a selector that may concern them. */
  readonly authorizations: readonly Shape[]
  /** Of PeerAuthentications. */
  readonly peers: readonly Shape[]
  /** What counts for all of the mesh and of the namespace. */
  readonly mesh: PlacedPeer | undefined
  readonly namespace: PlacedPeer | undefined
}

/** Looks around in a namespace. */
export function surroundingsOf(
  fetch: Fetch,
  area: Area,
  authorizations: Selection<PlacedPolicy>,
  peers: Selection<PlacedPeer>,
): Surroundings {
  return {
    authorizations: [area, WHOLE_MESH].flatMap((each) => authorizations.shapes(fetch, each)),
    peers: peers.shapes(fetch, area),
    mesh: oldest(peers.ofAll(fetch, WHOLE_MESH)),
    namespace: oldest(peers.ofAll(fetch, area)),
  }
}
