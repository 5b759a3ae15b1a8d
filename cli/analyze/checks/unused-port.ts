// SPDX-License-Identifier: Apache-2.0
// Ports of portLevelMtls that no pod has.

import { entry } from '../entry.ts'
import { finding } from '../finding.ts'
import { targetPorts } from '../services.ts'
import type { PeerObject } from '../policies.ts'
import type { WorkloadFacts } from '../workloads.ts'
import type { Check } from './check.ts'

export const UNUSED_PORT: Check = {
  codes: ['AMB602'],
  needs: ['Pod', 'Service', 'PeerAuthentication'],
  *run({ policies, workloads, services }) {
    const selected = new Map<readonly PeerObject[], WorkloadFacts[]>()
    for (const workload of workloads)
      for (const list of policies.peersSelecting(workload))
        entry(selected, list, () => [] as WorkloadFacts[]).push(workload)
    /** Ports of each workload that somebody says it has, and those of its Services that lead elsewhere. */
    const targets = new Map<WorkloadFacts, Set<number>>()
    const outer = new Map<WorkloadFacts, Map<number, readonly number[]>>()
    const named = new Set([...selected.values()].flat())
    for (const service of services)
      for (const workload of service.workloads)
        for (const port of named.has(workload) ? service.ports : []) {
          const leadsTo = targetPorts(workload, port)
          entry(targets, workload, () => new Set<number>()).add(leadsTo[0] ?? 0)
          entry(outer, workload, () => new Map<number, readonly number[]>()).set(port.port, leadsTo)
        }
    for (const [peer, port, those] of portsOf(selected)) {
      // Ports need not be declared: of pods that declare none, nothing is certain.
      const isUnused = those.every(
        (workload) =>
          workload.ports.length > 0 &&
          !workload.ports.some((each) => each.port === port) &&
          targets.get(workload)?.has(port) !== true,
      )
      if (!isUnused) continue
      const [meant] = those.flatMap((workload) => outer.get(workload)?.get(port) ?? [])
      yield finding(
        'AMB602',
        peer,
        `spec.portLevelMtls[${port}]`,
        meant === undefined
          ? `no container of the pods selected has port ${port}`
          : `${port} is the port of a Service; in the pods it is ${meant}`,
      )
    }
  },
}

/** Each port that an object names, with the workloads selected. */
function* portsOf(
  selected: ReadonlyMap<readonly PeerObject[], readonly WorkloadFacts[]>,
): Generator<readonly [PeerObject, number, readonly WorkloadFacts[]]> {
  for (const [list, those] of selected)
    for (const peer of list) for (const port of peer.facts.ports.keys()) yield [peer, port, those]
}
