// SPDX-License-Identifier: Apache-2.0
// `ambit status`

import { setTimeout as wait } from 'node:timers/promises'
import type { Command } from 'commander'
import { agentDump, askAgents, findAgents } from '../cluster/agents.ts'
import { askControllers } from '../cluster/controllers.ts'
import { askAllWaypoints } from '../cluster/waypoint-dumps.ts'
import { type ClusterTarget, openTarget, type TargetFlags } from '../cluster/target.ts'
import { clusterCommand, showing, type ShowFlags } from '../flags.ts'
import { show } from '../show.ts'
import { isOutOfStep, type MeshStatus, meshStatus, statusText } from '../tables/status.ts'

/** What is told of a change is under way for less than this. */
const SECOND_LOOK_MS = 1_500

export function statusCommand(): Command {
  return showing(
    clusterCommand('status', 'how the mesh does: components, nodes, pods, certificates'),
  ).action(async (flags: TargetFlags & ShowFlags) => {
    const target = await openTarget(flags)
    await show(flags, async () => {
      const { status, failures } = await look(target)
      return {
        data: status,
        text: () => statusText(status),
        failures,
        isUnwell: !status.isWell,
      }
    })
  })
}

interface Look {
  readonly status: MeshStatus
  /** Of what could not be asked for at all. */
  readonly failures: readonly Error[]
}

async function look(target: ClusterTarget): Promise<Look> {
  const first = await lookOnce(target)
  if (!isOutOfStep(first.status)) return first
  await wait(SECOND_LOOK_MS)
  return await lookOnce(target)
}

async function lookOnce(target: ClusterTarget): Promise<Look> {
  const agents = await findAgents(target, undefined)
  const [controllers, answers, { waypoints, failures }] = await Promise.all([
    askControllers(target),
    askAgents(agents, (agent) => agentDump(target, agent)),
    askAllWaypoints(target),
  ])
  return { status: meshStatus(controllers, answers, new Date(), waypoints), failures }
}
