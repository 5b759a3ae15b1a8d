// SPDX-License-Identifier: Apache-2.0
// Services that nobody may call: by the policies of their pods, or because nobody is there who could prove an identity.

import { isOnlyReported } from '../../../mesh/policy/action-indexes.ts'
import { entry } from '../entry.ts'
import { finding, refName } from '../finding.ts'
import type { AuthorizationObject } from '../policies.ts'
import type { WorkloadFacts } from '../workloads.ts'
import type { World } from '../world.ts'
import type { Check } from './check.ts'
import { deniesAll } from './denied-allow.ts'
import { isStrictPort, strictBy } from './strict.ts'

export const CLOSED_SERVICE: Check = {
  codes: ['AMB502', 'AMB503'],
  needs: ['Namespace', 'Pod', 'Service', 'AuthorizationPolicy', 'PeerAuthentication'],
  *run(world) {
    const closers = new Map<WorkloadFacts, string | undefined>()
    const says = new Map<readonly AuthorizationObject[], Said>()
    const closedBy = (workload: WorkloadFacts): string | undefined => {
      if (!closers.has(workload)) closers.set(workload, closerOf(world, workload, says))
      return closers.get(workload)
    }
    const members = world.workloads.filter(({ isMember }) => isMember !== false)
    // Whoever is not known may be a caller.
    const isWhole = world.objects.knows('Pod') && world.objects.knows('Namespace')
    for (const service of world.services) {
      const { workloads, ports } = service
      if (workloads.length === 0) continue
      const by = workloads.map(closedBy)
      if (by.every((each) => each !== undefined)) {
        yield finding(
          'AMB502',
          service,
          'spec.selector',
          `nobody may call its pods: ${by[0] ?? ''}`,
        )
        continue
      }
      if (!isWhole || ports.length === 0) continue
      if (!ports.every((port) => isStrictPort(world, service, port))) continue
      // Its own pods may call it; that they are meant to is not likely, and not certain, either.
      if (members.length <= workloads.length && members.every((each) => workloads.includes(each)))
        yield finding(
          'AMB503',
          service,
          'spec.selector',
          `${strictBy(world, service)} is STRICT, and no other workload is in the mesh`,
        )
    }
  },
}

/** What policies with the same selector say together. */
interface Said {
  readonly denier: AuthorizationObject | undefined
  readonly allowing: readonly AuthorizationObject[]
  readonly mayAllow: boolean
}

function saidBy(list: readonly AuthorizationObject[]): Said {
  const enforced = list.filter(
    ({ placed }) => placed !== undefined && !isOnlyReported(placed.policy),
  )
  const allowing = enforced.filter(({ placed }) => placed?.policy.action === 'allow')
  return {
    denier: enforced.find(deniesAll),
    // Enough to name.
    allowing: allowing.slice(0, 3),
    mayAllow: allowing.some(({ placed }) => placed !== undefined && placed.policy.rules.length > 0),
  }
}

/** Why nobody gets into the pods, if it is so. */
function closerOf(
  { policies }: World,
  workload: WorkloadFacts,
  says: Map<readonly AuthorizationObject[], Said>,
): string | undefined {
  if (workload.isMember !== true) return undefined
  const said = [...policies.authorizationsOf(workload)].map((list) =>
    entry(says, list, () => saidBy(list)),
  )
  const denier = said.find(({ denier }) => denier !== undefined)?.denier
  if (denier !== undefined) return `${refName(denier)} denies everything`
  const allowing = said.flatMap((each) => each.allowing)
  if (allowing.length === 0 || said.some(({ mayAllow }) => mayAllow)) return undefined
  return `ALLOW policies concern them, none of which has a rule that allows anything (${allowing.slice(0, 3).map(refName).join(', ')})`
}
