// SPDX-License-Identifier: Apache-2.0
// `ambit why SRC DST[:PORT]`

import type { Command } from 'commander'
import type { ProbedCall } from '../../agent/proxy/call-probe.ts'
import { familyOf, formatSocketAddress } from '../../mesh/model/address.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { AmbitError } from '../../mesh/errors.ts'
import type { Field } from '../../mesh/http/field-list.ts'
import { err, type Result } from '../../mesh/result.ts'
import type { CopiedWaypoint } from '../../waypoint/explain-request.ts'
import { tellAdmin } from '../cluster/admin.ts'
import { agentDump, askAgents, findAgents } from '../cluster/agents.ts'
import { fromFile, unreachable } from '../cluster/dumps.ts'
import { openTarget } from '../cluster/target.ts'
import { askWaypoints } from '../cluster/ask-waypoints.ts'
import { type DumpFlags, dumpCommand } from '../flags.ts'
import { show, type Shown } from '../show.ts'
import { type Called, parseDestination, parseSource, resolveDestination } from '../why/call.ts'
import type { Caller } from '../why/call-world.ts'
import { explainCall } from '../why/explain-call.ts'
import { findCaller } from '../why/find-caller.ts'
import { compareLive, liveText, readProbedCall } from '../why/live.ts'
import { parseHeader, PLAIN_REQUEST, requestProblem, type RequestText } from '../why/request.ts'
import { type Explanation, explanationText } from '../why/steps.ts'
import { type AgentView, agentView } from '../why/world.ts'

interface WhyFlags extends DumpFlags {
  readonly live?: true
  readonly method?: string
  readonly path?: string
  readonly host?: string
  readonly header?: readonly Field[]
}

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
    .option(
      '--method <method>',
      'of the request that a waypoint on the way is asked about (default: GET)',
    )
    .option('--path <path>', 'its path, with the query (default: /)')
    .option(
      '--host <host>',
      'its host, where it is another than what is called; of TLS, the name that is asked for',
    )
    .option('--header <name=value>', 'one of its headers; may be repeated', readHeader)
    .option(
      '--live',
      'make the call from the pod as well, send nothing, and say where reality differs',
    )
    .action(async (source: string, destination: string, flags: WhyFlags) => {
      if (flags.live === true && flags.file !== undefined)
        throw new AmbitError('AMB_USAGE', 'Cannot take --live with -f: a file makes no calls')
      await show(flags, () => why(flags, source, destination))
    })
}

async function why(flags: WhyFlags, source: string, destination: string): Promise<Shown> {
  const request = readRequest(flags)
  const { views, failures: silent } = await agentViews(flags)
  const { explained, failures: mute } = await explainAsking(flags, {
    views,
    source,
    destination,
    request,
  })
  const failures = [...silent, ...mute]
  const { explanation } = explained
  if (flags.live !== true)
    return {
      data: explanation,
      text: () => explanationText(explanation),
      failures,
      isUnwell: explanation.outcome !== 'connects',
    }
  const address = formatSocketAddress(explained.called.address)
  const tried = await tryCall(flags, explained, address)
  if (!tried.ok)
    return {
      data: { ...explanation, live: { address, error: tried.error.message } },
      text: () => explanationText(explanation),
      failures: [...failures, tried.error],
    }
  const comparison = compareLive(explanation, tried.value)
  return {
    data: { ...explanation, live: { address, ...tried.value, ...comparison } },
    text: () => [
      ...explanationText(explanation),
      ...liveText(comparison, address, tried.value.tookMs),
    ],
    failures,
    isUnwell: comparison.agreement === 'differs',
  }
}

/** Has the agent of the caller's node make the call. */
async function tryCall(
  flags: WhyFlags,
  { view, caller }: Explained,
  address: string,
): Promise<Result<ProbedCall, AmbitError>> {
  const target = await openTarget(flags)
  const [agent] = await findAgents(target, view.node)
  if (agent === undefined) throw new AmbitError('AMB_AGENT_MISSING', `No agent on ${view.node}`)
  const { namespace, name } = caller.pod
  const query = new URLSearchParams({ pod: `${namespace}/${name}`, to: address })
  const answer = await tellAdmin(target, { pod: agent.pod, path: `/probe?${query.toString()}` })
  const read = answer.ok ? readProbedCall(answer.value) : answer
  return read.ok ? read : err(unreachable(agent, `the call cannot be tried: ${read.error}`))
}

interface Explained {
  readonly explanation: Explanation
  readonly view: AgentView
  readonly caller: Caller
  readonly called: Called
}

interface Question {
  readonly views: readonly AgentView[]
  readonly source: string
  readonly destination: string
  /** Undefined: none was said. */
  readonly request: RequestText | undefined
}

/** Explains; where waypoints are on the way, a second time with what they say. */
async function explainAsking(
  flags: WhyFlags,
  question: Question,
): Promise<{ readonly explained: Explained; readonly failures: readonly AmbitError[] }> {
  const wanted = new Set<string>()
  const explained = explain(question, (name) => {
    wanted.add(name)
    return undefined
  })
  if (wanted.size === 0 || flags.file !== undefined) return { explained, failures: [] }
  const { waypoints, failures } = await askWaypoints(await openTarget(flags), wanted)
  return { explained: explain(question, (name) => waypoints.get(name)), failures }
}

function explain(
  { views, source, destination, request }: Question,
  waypointOf: (name: string) => CopiedWaypoint | undefined,
): Explained {
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
  const world = { source: view, agentOf, now: new Date(), waypointOf, request }
  const explanation = explainCall(world, caller, called.value)
  return { explanation, view, caller, called: called.value }
}

function readRequest({ method, path, host, header }: WhyFlags): RequestText | undefined {
  if ([method, path, host, header].every((flag) => flag === undefined)) return undefined
  const request: RequestText = {
    method: method ?? PLAIN_REQUEST.method,
    path: path ?? PLAIN_REQUEST.path,
    host,
    headers: header ?? PLAIN_REQUEST.headers,
  }
  const problem = requestProblem(request)
  if (problem !== undefined) throw new AmbitError('AMB_USAGE', `Cannot ask that: ${problem}`)
  return request
}

function readHeader(text: string, before: readonly Field[] = []): readonly Field[] {
  const header = parseHeader(text)
  if (header.ok) return [...before, header.value]
  throw new AmbitError('AMB_USAGE', `Cannot read --header "${text}": ${header.error}`)
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
