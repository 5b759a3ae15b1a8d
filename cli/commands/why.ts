// SPDX-License-Identifier: Apache-2.0
// `ambit why SRC DST[:PORT]`

import type { Command } from 'commander'
import { familyOf } from '../../mesh/model/address.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { AmbitError } from '../../mesh/errors.ts'
import { agentDump, askAgents, findAgents } from '../cluster/agents.ts'
import { fromFile, unreachable } from '../cluster/dumps.ts'
import { openTarget } from '../cluster/target.ts'
import { type DumpFlags, dumpCommand } from '../flags.ts'
import { show } from '../show.ts'
import { parseDestination, parseSource, resolveDestination } from '../why/call.ts'
import { explainCall } from '../why/explain-call.ts'
import { findCaller } from '../why/find-caller.ts'
import { explanationText } from '../why/steps.ts'
import { type AgentView, agentView } from '../why/world.ts'

export function whyCommand(): Command {
  return dumpCommand(
    'why',
    'what would happen to a connection, which object decides, and what to change',
  )
    .argument('<source>', 'NAMESPACE/POD or NAMESPACE/deploy/NAME')
    .argument(
      '<destination>',
      'NAMESPACE/NAME of a Service or pod, a host name, or an address; with :PORT',
    )
    .action(async (source: string, destination: string, flags: DumpFlags) => {
      await show(flags, async () => {
        const { views, failures } = await agentViews(flags)
        const explanation = explain(views, source, destination)
        return {
          data: explanation,
          text: () => explanationText(explanation),
          failures,
          isUnwell: explanation.outcome !== 'connects',
        }
      })
    })
}

function explain(views: readonly AgentView[], source: string, destination: string) {
  const from = parseSource(source)
  if (!from.ok)
    throw new AmbitError('AMB_USAGE', `Cannot read the source "${source}": ${from.error}`)
  const to = parseDestination(destination)
  if (!to.ok)
    throw new AmbitError('AMB_USAGE', `Cannot read the destination "${destination}": ${to.error}`)
  const found = findCaller(views, from.value)
  if (!found.ok) throw new AmbitError('AMB_WHY_UNKNOWN', `Cannot explain: ${found.error}`)
  const { view, caller } = found.value
  const { pod } = caller
  const prefers = (addresses: readonly IpAddress[]): IpAddress | undefined =>
    addresses.find((address) => pod.addresses.some((own) => familyOf(own) === familyOf(address)))
  const called = resolveDestination(to.value, {
    mesh: view.mesh,
    namespace: pod.namespace,
    clusterDomain: view.clusterDomain,
    prefers,
  })
  if (!called.ok) throw new AmbitError('AMB_WHY_UNKNOWN', `Cannot explain: ${called.error}`)
  const agentOf = (node: string) => views.find((each) => each.node === node)
  return explainCall({ source: view, agentOf, now: new Date() }, caller, called.value)
}

async function agentViews(
  flags: DumpFlags,
): Promise<{ readonly views: readonly AgentView[]; readonly failures: readonly AmbitError[] }> {
  if (flags.file !== undefined) {
    const views = fromFile(flags.file).dumps.map(({ node, dump }) => {
      const view = agentView(node, dump)
      if (view.ok) return view.value
      throw new AmbitError('AMB_DUMP', `Cannot explain by ${flags.file ?? ''}: ${view.error}`)
    })
    return { views, failures: [] }
  }
  const target = await openTarget(flags)
  const agents = await findAgents(target, flags.node)
  const answers = await askAgents(agents, async (agent) => {
    const dump = await agentDump(target, agent, { withResources: true })
    return dump.ok ? agentView(agent.node, dump.value) : dump
  })
  return {
    views: answers.flatMap(({ answer }) => (answer.ok ? [answer.value] : [])),
    failures: answers.flatMap(({ answer, ...agent }) =>
      answer.ok ? [] : [unreachable(agent, answer.error)],
    ),
  }
}
