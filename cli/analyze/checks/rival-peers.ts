// SPDX-License-Identifier: Apache-2.0
// PeerAuthentications that speak for the same: one of them does not count.

import { oldest } from '../../../mesh/policy/peer-authentication.ts'
import { entry } from '../entry.ts'
import { finding, refName } from '../finding.ts'
import type { PeerObject } from '../policies.ts'
import type { Check } from './check.ts'

export const RIVAL_PEERS: Check = {
  codes: ['AMB601'],
  needs: ['PeerAuthentication'],
  *run({ policies, workloads }) {
    /** Who counts instead, and for whom. */
    const losers = new Map<PeerObject, { readonly winner: PeerObject; readonly whom: string }>()
    /** Lists that have been compared, with the one that counted: those of one list are alike to each workload. */
    const compared = new Map<readonly PeerObject[], Set<PeerObject>>()
    const compare = (lists: readonly (readonly PeerObject[])[], whom: string): void => {
      const firsts = lists.flatMap((list) => firstOf(list) ?? [])
      const winner = firstOf(firsts)
      if (winner === undefined) return
      for (const list of lists) {
        const winners = entry(compared, list, () => new Set<PeerObject>())
        if (winners.has(winner)) continue
        winners.add(winner)
        for (const each of list)
          if (each !== winner && !losers.has(each)) losers.set(each, { winner, whom })
      }
    }
    const areas = new Set(
      policies.peers.flatMap(({ placed }) =>
        placed === undefined || placed.selector !== undefined ? [] : [placed.area],
      ),
    )
    for (const area of areas)
      compare([policies.peersOfArea(area)], area === '*' ? 'the whole mesh' : `namespace ${area}`)
    for (const workload of workloads)
      compare(policies.peersSelecting(workload), `${workload.kind} ${refName(workload)}`)
    for (const [peer, { winner, whom }] of losers)
      yield finding(
        'AMB601',
        peer,
        peer.placed?.selector === undefined ? 'metadata.namespace' : 'spec.selector',
        `PeerAuthentication ${refName(winner)} is older and counts for ${whom}`,
      )
  },
}

const firsts = new WeakMap<readonly PeerObject[], PeerObject | undefined>()

function firstOf(list: readonly PeerObject[]): PeerObject | undefined {
  if (firsts.has(list)) return firsts.get(list)
  const first = oldest(list.flatMap(({ placed }) => placed ?? []))
  const found = list.find(({ placed }) => placed === first)
  firsts.set(list, found)
  return found
}
