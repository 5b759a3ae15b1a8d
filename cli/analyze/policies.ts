// SPDX-License-Identifier: Apache-2.0
// The policy objects of a cluster, read as the controller reads them, and which workloads each concerns.

import type { TranslateConfig } from '../../controller/core/config.ts'
import {
  type AuthorizationPolicyFacts,
  readAuthorizationPolicy,
} from '../../controller/istio-api/authorization-policy.ts'
import { authorizationOf } from '../../controller/istio-api/authorization-rules.ts'
import {
  type PeerAuthenticationFacts,
  readPeerAuthentication,
} from '../../controller/istio-api/peer-authentication.ts'
import { type PlacedPeer, placedPeer } from '../../controller/istio-api/peer-placement.ts'
import { type PlacedPolicy, WHOLE_MESH } from '../../controller/istio-api/placed-policy.ts'
import { type MutualTls, mutualTlsOf, oldest } from '../../mesh/policy/peer-authentication.ts'
import { entry } from './entry.ts'
import type { ObjectRef } from './finding.ts'
import type { Objects, RawObject } from './objects.ts'
import { SelectorIndex } from './selector-index.ts'
import type { WorkloadFacts } from './workloads.ts'

/** How many workloads a policy speaks of. */
export interface Concern {
  workloads: number
  /** Those of them that are in the mesh, or may be. */
  members: number
}

export interface AuthorizationObject extends ObjectRef {
  readonly kind: 'AuthorizationPolicy'
  readonly object: RawObject
  readonly facts: AuthorizationPolicyFacts
  /** Undefined when agents have no part in it. */
  readonly placed: PlacedPolicy | undefined
  readonly concern: Concern
}

export interface PeerObject extends ObjectRef {
  readonly kind: 'PeerAuthentication'
  readonly facts: PeerAuthenticationFacts
  readonly placed: PlacedPeer | undefined
  readonly concern: Concern
}

export interface Policies {
  readonly authorizations: readonly AuthorizationObject[]
  readonly peers: readonly PeerObject[]
  /** Those that concern a workload, list by list: of the mesh, of its namespace, by its labels. */
  readonly authorizationsOf: (workload: WorkloadFacts) => Iterable<readonly AuthorizationObject[]>
  /** PeerAuthentications with a selector that has the workload, list by list: those of one list have the same selector. */
  readonly peersSelecting: (workload: WorkloadFacts) => readonly (readonly PeerObject[])[]
  /** Of all of a namespace, or of the mesh. */
  readonly peersOfArea: (area: string) => readonly PeerObject[]
  readonly mutualTlsOf: (workload: WorkloadFacts) => MutualTls
}

const ORIGIN = { cluster: '', clusterDomain: '' }
const NO_PEERS: readonly PeerObject[] = []
const EVERYTHING: ReadonlyMap<string, string> = new Map()

/** Reads them. */
export function readPolicies(
  objects: Objects,
  workloads: readonly WorkloadFacts[],
  config: TranslateConfig,
): Policies {
  const authorizations = objects.of('AuthorizationPolicy').flatMap((object) => {
    const { facts } = readAuthorizationPolicy(object, ORIGIN)
    if (facts === undefined) return []
    const { namespace, name } = facts
    const placed = authorizationOf(config, facts)
    const kind = 'AuthorizationPolicy' as const
    return [{ kind, namespace, name, object, facts, placed, concern: noConcern() }]
  })
  const peers = objects.of('PeerAuthentication').flatMap((object) => {
    const { facts } = readPeerAuthentication(object, ORIGIN)
    if (facts === undefined) return []
    const { namespace, name } = facts
    const placed = placedPeer(config, facts)
    const kind = 'PeerAuthentication' as const
    return [{ kind, namespace, name, facts, placed, concern: noConcern() }]
  })
  const byLabels = new SelectorIndex<AuthorizationObject>()
  for (const each of authorizations)
    if (each.placed !== undefined)
      byLabels.add(each.placed.area, each.placed.selector ?? EVERYTHING, each)
  const peersByLabels = new SelectorIndex<PeerObject>()
  const wide = new Map<string, PeerObject[]>()
  for (const each of peers) {
    const { placed } = each
    if (placed === undefined) continue
    if (placed.selector !== undefined) peersByLabels.add(placed.area, placed.selector, each)
    else entry(wide, placed.area, () => [] as PeerObject[]).push(each)
  }
  const authorizationsOf = function* (workload: WorkloadFacts) {
    yield* byLabels.selecting(WHOLE_MESH, workload.labels)
    yield* byLabels.selecting(workload.namespace, workload.labels)
  }
  const peersSelecting = ({ namespace, labels }: WorkloadFacts) => [
    ...peersByLabels.selecting(namespace, labels),
  ]
  const peersOfArea = (area: string): readonly PeerObject[] => wide.get(area) ?? NO_PEERS
  countConcerns(workloads, { authorizationsOf, peersSelecting, peersOfArea })
  const firsts = new Map<readonly PeerObject[], PlacedPeer | undefined>()
  const firstOf = (list: readonly PeerObject[]): PlacedPeer | undefined => {
    if (!firsts.has(list)) firsts.set(list, oldest(list.flatMap(({ placed }) => placed ?? [])))
    return firsts.get(list)
  }
  const known = new Map<WorkloadFacts, MutualTls>()
  return {
    authorizations,
    peers,
    authorizationsOf,
    peersSelecting,
    peersOfArea,
    mutualTlsOf: (workload) =>
      entry(known, workload, () =>
        mutualTlsOf({
          mesh: firstOf(peersOfArea(WHOLE_MESH)),
          namespace: firstOf(peersOfArea(workload.namespace)),
          workload: oldest(peersSelecting(workload).flatMap((list) => firstOf(list) ?? [])),
        }),
      ),
  }
}

const noConcern = (): Concern => ({ workloads: 0, members: 0 })

/** Policies that concern the same workloads are counted as one: else policies times workloads would be looked at. */
function countConcerns(
  workloads: readonly WorkloadFacts[],
  {
    authorizationsOf,
    peersSelecting,
    peersOfArea,
  }: Pick<Policies, 'authorizationsOf' | 'peersSelecting' | 'peersOfArea'>,
): void {
  const lists = new Map<readonly { readonly concern: Concern }[], Concern>()
  const count = (list: readonly { readonly concern: Concern }[], isMember: boolean): void => {
    const counted = entry(lists, list, noConcern)
    counted.workloads += 1
    if (isMember) counted.members += 1
  }
  for (const workload of workloads) {
    const mayBeMember = workload.isMember !== false
    for (const list of authorizationsOf(workload)) count(list, mayBeMember)
    for (const area of [WHOLE_MESH, workload.namespace]) {
      const list = peersOfArea(area)
      if (list.length > 0) count(list, mayBeMember)
    }
    for (const list of peersSelecting(workload)) count(list, mayBeMember)
  }
  for (const [list, { workloads: all, members }] of lists)
    for (const { concern } of list) {
      concern.workloads += all
      concern.members += members
    }
}
