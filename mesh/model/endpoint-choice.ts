// SPDX-License-Identifier: Apache-2.0
// Which of several equally good endpoints gets a connection: the less busy of two drawn by lot, or, for a service that
// wants each client to stay with one, that client's own. Pure, and hot: once per connection; watched by bench/mesh-state.ts.

import { hashText } from '../hash-text.ts'
import type { WorkloadUid } from './workload.ts'

/** What an endpoint is chosen by. Capacities are above 0. */
export interface Choosable {
  readonly uid: WorkloadUid
  readonly capacity: number
}

/** Connections that the caller has open to an endpoint, or is opening. */
export type OpenTo = (endpoint: WorkloadUid) => number

/** Of no endpoints. */
const NONE = -1

/**
 * The power of two choices: two endpoints are drawn by capacity, and the one with fewer connections for its capacity is
 * taken, the first when they are equal. It spreads nearly as well as asking all, and callers that know the same do not all
 * run to the same one. `random` is in [0, 1). Gives the place in the list, -1 in an empty one.
 */
export function lessBusyOfTwo(
  endpoints: readonly Choosable[],
  openTo: OpenTo,
  random: () => number,
): number {
  if (endpoints.length < 2) return endpoints.length - 1
  let total = 0
  for (const { capacity } of endpoints) total += capacity
  const first = drawn(endpoints, total, NONE, random)
  const one = endpoints[first]
  if (one === undefined) return NONE
  const second = drawn(endpoints, total - one.capacity, first, random)
  const other = endpoints[second]
  if (other === undefined) return first
  return openTo(other.uid) * one.capacity < openTo(one.uid) * other.capacity ? second : first
}

/** One by lot, each with a chance by its capacity, but for `except`; the last one when rounding leaves none. */
function drawn(
  endpoints: readonly Choosable[],
  total: number,
  except: number,
  random: () => number,
): number {
  let remaining = random() * total
  let chosen = NONE
  for (let at = 0; at < endpoints.length; at += 1) {
    if (at === except) continue
    chosen = at
    remaining -= endpoints[at]?.capacity ?? 0
    if (remaining < 0) break
  }
  return chosen
}

/**
 * Rendezvous hashing: each endpoint has a weight for this client, and the heaviest is the client's. Without a table, every
 * thread and every node finds the same one. An endpoint that comes takes its share from all others, one that goes leaves
 * its clients to all others, and nobody else moves. Weights follow capacity. `portAt` says which port is dialled at a place of
 * the list: an endpoint may be there by several. Gives the place in the list, -1 in an empty one.
 */
export function ownEndpoint(
  endpoints: readonly Choosable[],
  portAt: (place: number) => number,
  client: string,
  service: string,
): number {
  const seed = hashText(service, hashText(client))
  let own = NONE
  let shortest = Number.POSITIVE_INFINITY
  for (const [at, { uid, capacity }] of endpoints.entries()) {
    const hash = hashText(uid, seed ^ portAt(at))
    // The least of exponentially distributed lengths whose rates are the capacities: each wins by its part of their sum.
    const length = -Math.log((hash + 1) / HASHES) / capacity
    if (length >= shortest) continue
    own = at
    shortest = length
  }
  return own
}

/** One more than there are values of a hash: the quotient is never 0 nor 1. */
const HASHES = 2 ** 32 + 1
