// SPDX-License-Identifier: Apache-2.0
// What a replica tells the others of the agents and waypoints that are connected to it, as the data of a ConfigMap: those of which nodes, and
// of which Gateways, have acknowledged which policies, in what state. Pure.

import { heldResources } from '../../../mesh/xds/digest.ts'
import type { FollowingClient } from '../../../mesh/xds/server.ts'
import type { FollowersByPlace } from '../enforcement.ts'

/** A change of one policy touches one of them: the others are believed meanwhile. */
const BUCKETS = 256
const DIGEST_LENGTH = 16
/** Of one place; one that lags behind with more has acknowledged nothing, as far as others are told. */
const MOST_LAGGING = 20
/** A ConfigMap takes 1 MiB: places for which there is no room have no followers, as far as others are told. */
const LONGEST_NODES = 512 * 1024
const LONGEST_WAYPOINTS = 256 * 1024
const ALL = '*'
const EVERYTHING = 'everything'

/** Policies that followers at a place have not acknowledged. */
type Lagging = ReadonlySet<string> | typeof EVERYTHING

/** Followers of one type of policies. */
export interface Share {
  /** Of keys and versions of the policies that the replica sends, one for each bucket. */
  readonly digests: readonly string[]
  /** Agents by their nodes, waypoints by their Gateways. */
  readonly places: ReadonlyMap<string, Lagging>
}

export interface Report {
  readonly agents: Share
  readonly waypoints: Share
}

type ReportedFollower = Pick<FollowingClient<unknown>, 'isInStep'>

/** The data of the ConfigMap. A line for each place: its name, and what has not been acknowledged there. */
export type ReportData = Readonly<
  Record<'policies' | 'nodes' | 'waypointPolicies' | 'waypoints', string>
>

/** Sums up the policies that a replica sends: equal where equal ones are sent. */
function digestsOf(versions: Iterable<readonly [string, string]>): readonly string[] {
  const buckets = Map.groupBy(versions, ([key]) => bucketOf(key))
  return Array.from({ length: BUCKETS }, (_, at) => heldResources(buckets.get(at) ?? []).digest)
}

/** What there is to tell of those that follow policies here; `placeOf` says where each is. */
export function shareOf<C>(
  versions: Iterable<readonly [string, string]>,
  clients: Iterable<Pick<FollowingClient<C>, 'caller' | 'behind'>>,
  placeOf: (caller: C) => string,
): Share {
  const places = new Map<string, Lagging>()
  for (const { caller, behind } of clients) {
    const place = placeOf(caller)
    places.set(place, both(places.get(place), behind()))
  }
  return { digests: digestsOf(versions), places }
}

function both(known: Lagging | undefined, more: Iterable<string> | undefined): Lagging {
  if (known === EVERYTHING || more === undefined) return EVERYTHING
  const together = new Set(known)
  for (const key of more) {
    together.add(key)
    if (together.size > MOST_LAGGING) return EVERYTHING
  }
  return together
}

/** Writes it; equal reports are equal texts. */
export function encodeReport({ agents, waypoints }: Report): ReportData {
  return {
    policies: agents.digests.join(''),
    nodes: encodePlaces(agents, LONGEST_NODES),
    waypointPolicies: waypoints.digests.join(''),
    waypoints: encodePlaces(waypoints, LONGEST_WAYPOINTS),
  }
}

function encodePlaces({ places }: Share, longest: number): string {
  const lines: string[] = []
  let length = 0
  for (const [place, lagging] of [...places].sort(([one], [other]) => (one < other ? -1 : 1))) {
    const keys = lagging === EVERYTHING ? [ALL] : [...lagging].sort()
    const line = [place, ...keys].join(' ')
    length += line.length + 1
    if (length > longest) break
    lines.push(line)
  }
  return lines.join('\n')
}

/** Reads it; undefined for what is none, as another version of the controller may write one. An older one tells of no waypoints. */
export function decodeReport(data: Readonly<Record<string, string>>): Report | undefined {
  const agents = decodeShare(data['policies'], data['nodes'])
  const waypoints = decodeShare(data['waypointPolicies'], data['waypoints']) ?? NOBODY
  return agents && { agents, waypoints }
}

const NOBODY: Share = { digests: [], places: new Map() }

function decodeShare(policies: string | undefined, text: string | undefined): Share | undefined {
  if (policies?.length !== BUCKETS * DIGEST_LENGTH || text === undefined) return undefined
  const digests = Array.from({ length: BUCKETS }, (_, at) =>
    policies.slice(at * DIGEST_LENGTH, (at + 1) * DIGEST_LENGTH),
  )
  const places = new Map<string, Lagging>()
  for (const line of text.split('\n')) {
    const [place = '', ...keys] = line.split(' ')
    if (place !== '') places.set(place, keys.includes(ALL) ? EVERYTHING : new Set(keys))
  }
  return { digests, places }
}

/** The followers that a share tells of. One is believed of a policy only where both sides send the same. */
function* reportedFollowers(
  { digests, places }: Share,
  own: readonly string[],
): Generator<readonly [place: string, follower: ReportedFollower]> {
  for (const [place, lagging] of places)
    yield [
      place,
      {
        isInStep: (key) => {
          const bucket = bucketOf(key)
          const isSame = digests[bucket] === own[bucket]
          return isSame && lagging !== EVERYTHING && !lagging.has(key)
        },
      },
    ]
}

/** Adds followers that others tell of to those that are connected here: each at a place has to have a policy. */
export function withReported(
  here: FollowersByPlace,
  shares: readonly Share[],
  versions: () => Iterable<readonly [string, string]>,
): FollowersByPlace {
  if (shares.length === 0) return here
  const own = digestsOf(versions())
  const all = new Map(here)
  for (const share of shares)
    for (const [place, follower] of reportedFollowers(share, own))
      all.set(place, [...(all.get(place) ?? []), follower])
  return all
}

const PRIME = 0x01000193
const SEED = 0x811c9dc5

/** FNV-1a. */
function bucketOf(key: string): number {
  let hash = SEED
  for (let at = 0; at < key.length; at += 1)
    hash = Math.imul(hash ^ key.charCodeAt(at), PRIME) >>> 0
  return hash % BUCKETS
}
