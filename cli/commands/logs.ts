// SPDX-License-Identifier: Apache-2.0
// `ambit logs`: what agents log, and how loud they are.

import { type Command, InvalidArgumentError } from 'commander'
import { AmbitError } from '../../mesh/errors.ts'
import { parseDurationSeconds, wholeNumber } from '../../mesh/program/flags.ts'
import { askAdmin, tellAdmin } from '../cluster/admin.ts'
import { type AgentPod, askAgents, findAgents } from '../cluster/agents.ts'
import { unreachable } from '../cluster/dumps.ts'
import { podLog } from '../cluster/pod-log.ts'
import { type ClusterTarget, openTarget, type TargetFlags } from '../cluster/target.ts'
import { clusterCommand, type OutputFormat } from '../flags.ts'
import { print, printError } from '../output.ts'
import { show } from '../show.ts'
import { levelTable, logFilter } from '../tables/logs.ts'

type Flags = TargetFlags & {
  readonly output: OutputFormat
  readonly node?: string
  readonly follow?: true
  readonly tail?: number
  readonly since?: number
  readonly part?: string
  readonly grep?: string
  readonly levels?: true
  readonly level?: string
  readonly reset?: true
}

export function logsCommand(): Command {
  return clusterCommand('logs', "the agents' logs, access lines included; or how loud they are")
    .option('--node <node>', 'only the agent of this node')
    .option('-f, --follow', 'go on with what comes, until Ctrl-C')
    .option('--tail <lines>', 'so many of the last lines', wholeNumber(0))
    .option('--since <duration>', 'only lines of the last 90s, 30m, 24h', parseDurationSeconds)
    .option('--part <part>', 'only lines of this part, such as access or xds')
    .option('--grep <text>', 'only lines that contain this')
    .option('--levels', 'not the log: how loud each part is')
    .option('--level <level>', 'make it LEVEL, or PART:LEVEL,...', parseLevelText)
    .option('--reset', 'as loud as when they were started')
    .option('-o, --output <format>', 'of --levels: table, json or yaml', 'table')
    .action(async (flags: Flags) => {
      const { level, reset, levels, follow, part, grep } = flags
      const isAboutLevels = level !== undefined || reset === true || levels === true
      if (isAboutLevels && (follow === true || part !== undefined || grep !== undefined))
        throw new AmbitError('AMB_USAGE', 'Cannot show the log and its levels at once')
      const target = await openTarget(flags)
      const agents = await findAgents(target, flags.node)
      if (isAboutLevels) await showLevels(target, agents, flags)
      else await printLogs(target, agents, flags)
    })
}

async function showLevels(
  target: ClusterTarget,
  agents: readonly AgentPod[],
  { output, level, reset }: Flags,
): Promise<void> {
  const query = new URLSearchParams()
  if (level !== undefined) query.set('level', level)
  if (reset === true) query.set('reset', '')
  const answers = await askAgents(agents, ({ pod }) =>
    level === undefined && reset === undefined
      ? askAdmin(target, { pod, path: '/logging' })
      : tellAdmin(target, { pod, path: `/logging?${query.toString()}` }),
  )
  const told = answers.flatMap(({ node, answer }) =>
    answer.ok ? [{ node, levels: answer.value }] : [],
  )
  await show({ output }, async () => ({
    data: told,
    text: () => [levelTable(told)],
    failures: answers.flatMap(({ answer, ...agent }) =>
      answer.ok ? [] : [unreachable(agent, answer.error)],
    ),
  }))
}

async function printLogs(
  target: ClusterTarget,
  agents: readonly AgentPod[],
  { follow, tail, since, part, grep }: Flags,
): Promise<void> {
  const ended = new AbortController()
  process.once('SIGINT', () => ended.abort())
  const passes = logFilter({ part, grep })
  const several = agents.length > 1
  await Promise.all(
    agents.map(async ({ pod, node }) => {
      const options = {
        follow: follow === true,
        ...(tail === undefined ? {} : { tail }),
        ...(since === undefined ? {} : { sinceSeconds: since }),
        signal: ended.signal,
      }
      try {
        await podLog(target, pod, options, (line) => {
          if (passes(line)) print(several ? `${node} ${line}` : line)
        })
      } catch (thrown) {
        if (ended.signal.aborted) return
        printError(thrown)
        process.exitCode = 1
      }
    }),
  )
}

function parseLevelText(text: string): string {
  if (!/^[\w.:=,-]+$/.test(text))
    throw new InvalidArgumentError('It must be LEVEL or PART:LEVEL,..., e.g. xds:debug,info.')
  return text
}
