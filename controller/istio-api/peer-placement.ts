// SPDX-License-Identifier: Apache-2.0
// Where a PeerAuthentication counts. What those that count ask of a workload's callers is said in mesh/policy.

import type { Fetch } from '../../mesh/collections/index.ts'
import type { Policy } from '../../mesh/model/policy.ts'
import {
  type InForce,
  oldest,
  type PeerAuthentication,
  policyOfMutualTls,
} from '../../mesh/policy/peer-authentication.ts'
import type { TranslateConfig } from '../core/config.ts'
import type { PeerAuthenticationFacts } from './peer-authentication.ts'
import { type Area, WHOLE_MESH } from './placed-policy.ts'
import type { Selection } from './selection.ts'

/** An object that counts in an area: a namespace, or the whole mesh. */
export interface PlacedPeer extends PeerAuthentication {
  readonly area: Area
}

/** Gives what counts; undefined for what nobody can say of whom it speaks. */
export function placedPeer(
  { rootNamespace }: TranslateConfig,
  { namespace, name, createdAt, target, mode, ports }: PeerAuthenticationFacts,
): PlacedPeer | undefined {
  if (target.kind !== 'all' && target.kind !== 'labels') return undefined
  const selector = target.kind === 'labels' ? target.labels : undefined
  // Selectors of the root namespace are for its own workloads.
  const isOfMesh = namespace === rootNamespace && selector === undefined
  const area = isOfMesh ? WHOLE_MESH : (namespace as Area)
  return { namespace, name, createdAt, selector, mode, ports, area }
}

/**
 * The policy of an object that cannot be read and is, or may be, strict: for all whom it may concern, and whatever others say. One
 * that would let more callers in lets in nobody.
 */
export function closedPeerPolicy(
  { rootNamespace }: TranslateConfig,
  { namespace, name, createdAt, target, mode, ports }: PeerAuthenticationFacts,
): Policy | undefined {
  if (target.kind !== 'unreadable') return undefined
  if (mode !== 'strict' && ![...ports.values()].includes('strict')) return undefined
  const by = { namespace, name, createdAt, selector: new Map(), mode, ports: new Map() }
  const policy = policyOfMutualTls(rootNamespace, { mode: 'strict', exceptions: [], by })
  return policy && { ...policy, scope: namespace === rootNamespace ? 'mesh' : 'namespace' }
}

/** What counts for the workloads for which this one does. */
export function inForceAt(
  peers: Selection<PlacedPeer>,
  fetch: Fetch,
  peer: PlacedPeer,
): InForce<PlacedPeer> {
  const mesh = oldest(peers.ofAll(fetch, WHOLE_MESH))
  if (peer.area === WHOLE_MESH) return { mesh, namespace: undefined, workload: undefined }
  const namespace = oldest(peers.ofAll(fetch, peer.area))
  return { mesh, namespace, workload: peer.selector === undefined ? undefined : peer }
}

/** Objects beside one: whose they are, in words. */
export interface Rivals {
  /** The one that comes before it for all whom it speaks of. */
  readonly older: string | undefined
  /** Those that can select the same workloads. */
  readonly others: readonly string[]
}

/** As many are compared with one: who has more of them in a namespace has other troubles. */
const MOST_COMPARED = 100
const MOST_RIVALS = 5

/** Who else speaks for the workloads of this one. */
export function rivalsOf(peers: Selection<PlacedPeer>, fetch: Fetch, peer: PlacedPeer): Rivals {
  const { area, selector } = peer
  const nameOf = ({ namespace, name }: PlacedPeer): string => `${namespace}/${name}`
  if (selector === undefined) {
    const all = peers.ofAll(fetch, area)
    const first = oldest(all)
    const isFirst = first === undefined || first === peer
    const others = isFirst ? all.filter((each) => each !== peer) : []
    return {
      older: isFirst ? undefined : nameOf(first),
      others: others.slice(0, MOST_RIVALS).map(nameOf),
    }
  }
  const others = peers
    .ofSome(fetch, area)
    .slice(0, MOST_COMPARED)
    .filter((each) => each !== peer && canMeet(selector, each.selector))
  return { older: undefined, others: others.slice(0, MOST_RIVALS).map(nameOf) }
}

/** Whether a workload can have the labels of both. */
function canMeet(
  one: ReadonlyMap<string, string>,
  other: ReadonlyMap<string, string> | undefined,
): boolean {
  return (
    other === undefined || [...one].every(([key, value]) => (other.get(key) ?? value) === value)
  )
}
