// SPDX-License-Identifier: Apache-2.0
// NetworkPolicies that a CNI must take for an end of the mesh: what it sees of a call between two nodes is port 15008, and they let other
// ports through and not that one.

import type { NetworkRule } from '../../../mesh/model/network-policy.ts'
import { MESH_PORTS } from '../../../mesh/model/ports.ts'
import type { NetworkWay } from '../../../mesh/policy/network.ts'
import { entry } from '../entry.ts'
import { finding } from '../finding.ts'
import type { NetworkObject } from '../network-policies.ts'
import type { Check } from './check.ts'

type PolicyList = readonly NetworkObject[]

/** What the policies of one list say of one direction. */
interface Statement {
  readonly letsTunnelsThrough: boolean
  /** The first that lets pods through at some port. */
  readonly speaker: NetworkObject | undefined
}

export const CLOSED_TUNNEL: Check = {
  codes: ['AMB605'],
  needs: ['Namespace', 'NetworkPolicy', 'Pod'],
  *run({ networkPolicies, workloads }) {
    for (const way of ['ingress', 'egress'] as const) {
      const statements = new Map<PolicyList, Statement>()
      const told = new Set<NetworkObject>()
      for (const workload of workloads) {
        // Of a pod that nobody takes into the mesh it means what it says.
        if (workload.isMember !== true) continue
        const said = networkPolicies
          .selecting(workload)
          .map((list) => entry(statements, list, () => statementOf(list, way)))
        const speaker = said.find((each) => each.speaker !== undefined)?.speaker
        const isOpen = said.some(({ letsTunnelsThrough }) => letsTunnelsThrough)
        if (speaker === undefined || isOpen || told.has(speaker)) continue
        told.add(speaker)
        yield finding(
          'AMB605',
          speaker,
          `spec.${way}`,
          `${workload.kind} ${workload.name} is in the mesh, and no policy that selects it has an ${way} rule for port ${MESH_PORTS.hbone}`,
        )
      }
    }
  },
}

function statementOf(list: PolicyList, way: NetworkWay): Statement {
  const rulesOf = ({ facts }: NetworkObject): readonly NetworkRule[] =>
    facts.policy[way]?.rules ?? []
  return {
    letsTunnelsThrough: list.some((each) => rulesOf(each).some(hasTunnelPort)),
    speaker: list.find((each) => rulesOf(each).some(speaksOfPods)),
  }
}

function hasTunnelPort({ isAnyPort, ports }: NetworkRule): boolean {
  return (
    isAnyPort ||
    ports.some(
      (port) =>
        port.kind === 'range' && port.first <= MESH_PORTS.hbone && port.last >= MESH_PORTS.hbone,
    )
  )
}

/** Ranges are of what is outside, as a rule: what comes from there is not HBONE. */
function speaksOfPods({ isAnyPeer, peers }: NetworkRule): boolean {
  return isAnyPeer || peers.some(({ kind }) => kind !== 'range')
}
