// SPDX-License-Identifier: Apache-2.0
// `ambit logs`: what agents, or the pods of a waypoint, log, and how loud they are.

import { type Command, InvalidArgumentError } from 'commander'
import { AmbitError } from '../../mesh/errors.ts'
import { parseDurationSeconds, wholeNumber } from '../../mesh/program/flags.ts'
import { readRequestFilter } from '../../waypoint/access-log.ts'
import { readConnectionFilter, readShare } from '../../mesh/telemetry/access-spec.ts'
import { askAdmin, tellAdmin } from '../cluster/admin.ts'
import { findAgents } from '../cluster/agents.ts'
import { unreachable } from '../cluster/dumps.ts'
import { podLog } from '../cluster/pod-log.ts'
import { type ClusterTarget, openTarget, type TargetFlags } from '../cluster/target.ts'
import { waypointUnreachable } from '../cluster/waypoint-dumps.ts'
import { type WaypointPod, waypointPods } from '../cluster/waypoint-pods.ts'
import { clusterCommand, type OutputFormat } from '../flags.ts'
import { print, printError } from '../output.ts'
import { show } from '../show.ts'
import { accessTable, levelTable, logFilter } from '../tables/logs.ts'

type Flags = TargetFlags & {
  readonly output: OutputFormat
  readonly node?: string
  readonly waypoint?: string
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
  return clusterCommand(
    'logs',
    "the agents' logs or a waypoint's, access lines included; or how loud they are",
  )
    .option('--node <node>', 'only the agent of this node')
    .option('--waypoint <namespace/name>', 'the pods of this waypoint, and no agent')
    .option('-f, --follow', 'go on with what comes, until Ctrl-C')
    .option('--tail <lines>', 'so many of the last lines', wholeNumber(0))
    .option('--since <duration>', 'only lines of the last 90s, 30m, 24h', parseDurationSeconds)
    .option('--part <part>', 'only lines of this part, such as access or xds')
    .option('--grep <text>', 'only lines that contain this')
    .option('--levels', 'not the log: how loud each part is')
    .option('--level <level>', 'make it LEVEL, or PART:LEVEL,...', parseLevelText)
    .option('--reset', 'as loud as when they were started')
    .option(
      '--access',
      'not the log: which connections, and at waypoints requests, have an access line',
    )
    .option(
      '--access-filter <expression>',
      'only those it is true of, e.g. \'has(error) || duration > 500\'; "" for all',
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
      if (flags.node !== undefined && flags.waypoint !== undefined)
        throw new AmbitError('AMB_USAGE', 'Cannot speak of a node and of a waypoint at once')
      checkFilter(flags)
      const target = await openTarget(flags)
      // What is changed is the agents', or one waypoint's: filters of connections and of requests are not the same.
      const isLook = isAboutAccess && !isAccessChanged(flags) && flags.node === undefined
      const pods = await podsOf(target, flags, isLook)
      if (isAboutLevels) await showLevels(target, pods, flags)
      else if (isAboutAccess) await showAccess(target, pods, flags)
      else await printLogs(target, pods, flags)
    })
}

/** A pod that has a log, and what stands for it in front of its lines. */
interface LogPod {
  readonly pod: string
  /** The pod's; undefined: that of the mesh itself. */
  readonly namespace: string | undefined
  readonly label: string
  readonly unreachable: (reason: string) => AmbitError
}

/** Agents, or the pods of the waypoint that is named; `withWaypoints`: those of all waypoints, too, where none is. */
async function podsOf(
  target: ClusterTarget,
  { node, waypoint }: Flags,
  withWaypoints: boolean,
): Promise<readonly LogPod[]> {
  if (waypoint !== undefined) {
    const all = await waypointPods(target)
    const pods = all.filter(({ namespace, gateway }) => `${namespace}/${gateway}` === waypoint)
    if (pods.length > 0) return pods.map(ofWaypoint)
    throw new AmbitError('AMB_USAGE', `Cannot find a pod of waypoint "${waypoint}" that runs`)
  }
  const agents = (await findAgents(target, node)).map(
    (agent): LogPod => ({
      pod: agent.pod,
      namespace: undefined,
      label: agent.node,
      unreachable: (reason) => unreachable(agent, reason),
    }),
  )
  return withWaypoints ? [...agents, ...(await waypointPods(target)).map(ofWaypoint)] : agents
}

function ofWaypoint(pod: WaypointPod): LogPod {
  return {
    pod: pod.pod,
    namespace: pod.namespace,
    label: `${pod.namespace}/${pod.pod}`,
    unreachable: (reason) => waypointUnreachable(pod, reason),
  }
}

/** Said here, before anybody is asked; those who are asked read it for themselves. */
function checkFilter({ accessFilter, waypoint }: Flags): void {
  if (accessFilter === undefined) return
  const read = waypoint === undefined ? readConnectionFilter : readRequestFilter
  const filter = read(accessFilter)
  if (!filter.ok) throw new AmbitError('AMB_USAGE', `Cannot read --access-filter: ${filter.error}`)
}

function isAccessChanged({ accessFilter, accessSample, accessReset }: Flags): boolean {
  return accessFilter !== undefined || accessSample !== undefined || accessReset === true
}

function isAccessAsked(flags: Flags): boolean {
  return flags.access === true || isAccessChanged(flags)
}

async function showAccess(
  target: ClusterTarget,
  pods: readonly LogPod[],
  { output, accessFilter, accessSample, accessReset }: Flags,
): Promise<void> {
  const query = new URLSearchParams()
  if (accessFilter !== undefined) query.set('filter', accessFilter)
  if (accessSample !== undefined) query.set('sample', accessSample)
  if (accessReset === true) query.set('reset', '')
  await showLogging(target, pods, output, { path: '/logging/access', query }, accessTable)
}

async function showLevels(
  target: ClusterTarget,
  pods: readonly LogPod[],
  { output, level, reset }: Flags,
): Promise<void> {
  const query = new URLSearchParams()
  if (level !== undefined) query.set('level', level)
  if (reset === true) query.set('reset', '')
  await showLogging(target, pods, output, { path: '/logging', query }, levelTable)
}

/** Changes how they log when the query says something, and shows how they do. */
async function showLogging(
  target: ClusterTarget,
  pods: readonly LogPod[],
  output: OutputFormat,
  { path, query }: { readonly path: string; readonly query: URLSearchParams },
  table: typeof levelTable,
): Promise<void> {
  const answers = await Promise.all(
    pods.map(async (asked) => {
      const { pod, namespace } = asked
      const whom = { pod, ...(namespace !== undefined && { namespace }) }
      const answer =
        query.size === 0
          ? await askAdmin(target, { ...whom, path })
          : await tellAdmin(target, { ...whom, path: `${path}?${query.toString()}` })
      return { ...asked, answer }
    }),
  )
  const told = answers.flatMap(({ label, answer }) =>
    answer.ok ? [{ node: label, levels: answer.value }] : [],
  )
  await show({ output }, async () => ({
    data: told,
    text: () => [table(told)],
    failures: answers.flatMap(({ answer, ...asked }) =>
      answer.ok ? [] : [asked.unreachable(answer.error)],
    ),
  }))
}

async function printLogs(
  target: ClusterTarget,
  pods: readonly LogPod[],
  { follow, tail, since, part, grep }: Flags,
): Promise<void> {
  const ended = new AbortController()
  process.once('SIGINT', () => ended.abort())
  const passes = logFilter({ part, grep })
  const several = pods.length > 1
  await Promise.all(
    pods.map(async ({ pod, namespace, label }) => {
      const options = {
        follow: follow === true,
        ...(tail === undefined ? {} : { tail }),
        ...(since === undefined ? {} : { sinceSeconds: since }),
        signal: ended.signal,
      }
      try {
        const where = { pod, namespace: namespace ?? target.systemNamespace }
        await podLog(target, where, options, (line) => {
          if (passes(line)) print(several ? `${label} ${line}` : line)
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

function parseShareText(text: string): string {
  const share = readShare(text)
  if (!share.ok) throw new InvalidArgumentError(share.error)
  return text
}
