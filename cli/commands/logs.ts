// SPDX-License-Identifier: Apache-2.0
// `ambit logs`: what agents log, and how loud they are.

import { type Command, InvalidArgumentError } from 'commander'
import { AmbitError } from '../../mesh/errors.ts'
import { parseDurationSeconds, wholeNumber } from '../../mesh/program/flags.ts'
import { readConnectionFilter, readShare } from '../../mesh/telemetry/access-spec.ts'
import { askAdmin, tellAdmin } from '../cluster/admin.ts'
import { type AgentPod, askAgents, findAgents } from '../cluster/agents.ts'
import { unreachable } from '../cluster/dumps.ts'
import { podLog } from '../cluster/pod-log.ts'
import { type ClusterTarget, openTarget, type TargetFlags } from '../cluster/target.ts'
import { clusterCommand, type OutputFormat } from '../flags.ts'
import { print, printError } from '../output.ts'
import { show } from '../show.ts'
import { accessTable, levelTable, logFilter } from '../tables/logs.ts'

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
  readonly access?: true
  readonly accessFilter?: string
  readonly accessSample?: string
  readonly accessReset?: true
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
    .option('--access', 'not the log: which connections have an access line')
    .option(
      '--access-filter <expression>',
      'only those it is true of, e.g. \'has(error) || duration > 500\'; "" for all',
      parseFilterText,
    )
    .option(
      '--access-sample <share>',
      'so much of those that ended well, from 0 to 1',
      parseShareText,
    )
    .option('--access-reset', 'as the agents were started')
    .option('-o, --output <format>', 'of --levels and --access: table, json or yaml', 'table')
    .action(async (flags: Flags) => {
      const { level, reset, levels, follow, part, grep } = flags
      const isAboutLevels = level !== undefined || reset === true || levels === true
      const isAboutAccess = isAccessAsked(flags)
      if (
        (isAboutLevels || isAboutAccess) &&
        (follow === true || part !== undefined || grep !== undefined)
      )
        throw new AmbitError('AMB_USAGE', 'Cannot show the log and how it is written at once')
      if (isAboutLevels && isAboutAccess)
        throw new AmbitError('AMB_USAGE', 'Cannot show levels and access lines at once')
      const target = await openTarget(flags)
      const agents = await findAgents(target, flags.node)
      if (isAboutLevels) await showLevels(target, agents, flags)
      else if (isAboutAccess) await showAccess(target, agents, flags)
      else await printLogs(target, agents, flags)
    })
}

function isAccessAsked({ access, accessFilter, accessSample, accessReset }: Flags): boolean {
  return (
    access === true ||
    accessFilter !== undefined ||
    accessSample !== undefined ||
    accessReset === true
  )
}

async function showAccess(
  target: ClusterTarget,
  agents: readonly AgentPod[],
  { output, accessFilter, accessSample, accessReset }: Flags,
): Promise<void> {
  const query = new URLSearchParams()
  if (accessFilter !== undefined) query.set('filter', accessFilter)
  if (accessSample !== undefined) query.set('sample', accessSample)
  if (accessReset === true) query.set('reset', '')
  await showLogging(target, agents, output, { path: '/logging/access', query }, accessTable)
}

async function showLevels(
  target: ClusterTarget,
  agents: readonly AgentPod[],
  { output, level, reset }: Flags,
): Promise<void> {
  const query = new URLSearchParams()
  if (level !== undefined) query.set('level', level)
  if (reset === true) query.set('reset', '')
  await showLogging(target, agents, output, { path: '/logging', query }, levelTable)
}

/** Changes how the agents log when the query says something, and shows how they do. */
async function showLogging(
  target: ClusterTarget,
  agents: readonly AgentPod[],
  output: OutputFormat,
  { path, query }: { readonly path: string; readonly query: URLSearchParams },
  table: typeof levelTable,
): Promise<void> {
  const answers = await askAgents(agents, ({ pod }) =>
    query.size === 0
      ? askAdmin(target, { pod, path })
      : tellAdmin(target, { pod, path: `${path}?${query.toString()}` }),
  )
  const told = answers.flatMap(({ node, answer }) =>
    answer.ok ? [{ node, levels: answer.value }] : [],
  )
  await show({ output }, async () => ({
    data: told,
    text: () => [table(told)],
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

/** Said here, before any agent is asked; the agents read it for themselves. */
function parseFilterText(text: string): string {
  const filter = readConnectionFilter(text)
  if (!filter.ok) throw new InvalidArgumentError(filter.error)
  return text
}

function parseShareText(text: string): string {
  const share = readShare(text)
  if (!share.ok) throw new InvalidArgumentError(share.error)
  return text
}
