// SPDX-License-Identifier: Apache-2.0
// `ambit config-dump`

import { type Command, Option } from 'commander'
import { AmbitError } from '../../mesh/errors.ts'
import { agentDump, findAgents } from '../cluster/agents.ts'
import { fromFile, unreachable } from '../cluster/dumps.ts'
import { openTarget, type TargetFlags } from '../cluster/target.ts'
import { clusterCommand, type OutputFormat } from '../flags.ts'
import { show } from '../show.ts'

type Flags = TargetFlags & {
  readonly output: Exclude<OutputFormat, 'table'>
  readonly node?: string
  readonly file?: string
}

export function configDumpCommand(): Command {
  return clusterCommand(
    'config-dump',
    "an agent's whole state, no key in it; a saved one is read by the other commands with -f",
  )
    .option('--node <node>', 'the agent of this node')
    .option('-f, --file <file>', 'a saved dump, to print it in the other format')
    .addOption(
      new Option('-o, --output <format>', 'how to print it')
        .choices(['json', 'yaml'])
        .default('json'),
    )
    .action((flags: Flags) =>
      show(flags, async () => ({ data: await dump(flags), text: () => [] })),
    )
}

async function dump(flags: Flags): Promise<unknown> {
  if (flags.file !== undefined) return fromFile(flags.file).dumps[0]?.dump
  const target = await openTarget(flags)
  const agents = await findAgents(target, flags.node)
  const [agent, ...others] = agents
  if (agent === undefined || others.length > 0) {
    const nodes = agents.map(({ node }) => node).join(', ')
    throw new AmbitError('AMB_USAGE', `Cannot choose an agent: name its --node (${nodes})`)
  }
  const answer = await agentDump(target, agent, { withResources: true })
  if (!answer.ok) throw unreachable(agent, answer.error)
  return answer.value
}
