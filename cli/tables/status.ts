// SPDX-License-Identifier: Apache-2.0
// How the mesh does, computed from what its components say: who is there, who holds what the controller offers, which pods are in the
// mesh and which could not be brought in, which certificates are near their end. Pure.

import type { AgentAnswer } from '../cluster/agents.ts'
import type { ControllerAnswer } from '../cluster/controllers.ts'
import type { WaypointAnswer } from '../cluster/waypoint-dumps.ts'
import type { ConfigDump, DumpedDiscovery, DumpedStanding } from '../dump/config-dump.ts'
import { ADDRESS } from '../../mesh/xds/types/address.ts'
import type { Table } from './table.ts'

export interface ComponentStatus {
  readonly component: 'controller' | 'agent' | 'waypoint'
  readonly node: string
  readonly pod: string
  readonly version: string
  /** One word or a few. */
  readonly state: string
  readonly isWell: boolean
}

export interface NodeStatus {
  readonly node: string
  readonly captured: number
  readonly waiting: number
  readonly failed: number
  readonly outside: number
  readonly connections: number
}

/** A pod of a waypoint. Counts are since it started. */
export interface WaypointStatus {
  readonly waypoint: string
  readonly pod: string
  readonly calls: number
  readonly requests: number
  /** Ended in 5xx or without an answer. */
  readonly failed: number
  /** Refused by a policy. */
  readonly denied: number
}

export interface PodProblem {
  readonly node: string
  readonly pod: string
  readonly state: string
  readonly reason: string
}

export interface CertificateProblem {
  readonly node: string
  readonly identity: string
  readonly problem: string
}

export interface MeshStatus {
  readonly components: readonly ComponentStatus[]
  readonly nodes: readonly NodeStatus[]
  readonly waypoints: readonly WaypointStatus[]
  readonly pods: readonly PodProblem[]
  readonly certificates: { readonly held: number; readonly problems: readonly CertificateProblem[] }
  readonly isWell: boolean
}

/** Certificates are renewed at half of their life: with less than a quarter left, somebody has failed to for long. */
const NEAR_END = 0.25
const UNKNOWN = '-'

type Resources = Readonly<Record<string, { readonly digest: string }>>

/** Computes it. `now` decides what is near its end. */
export function meshStatus(
  controllers: readonly ControllerAnswer[],
  agents: readonly AgentAnswer<ConfigDump>[],
  now: Date,
  waypoints: readonly WaypointAnswer[] = [],
): MeshStatus {
  const offered = offeredResources(controllers, agents)
  const components = [
    ...controllers.map(controllerStatus),
    ...agents.map((agent) => agentStatus(agent, offered)),
    ...waypoints.map((waypoint) => waypointStatus(waypoint, offered)),
  ]
  const dumps = agents.flatMap(({ node, answer }) =>
    answer.ok ? [{ node, dump: answer.value }] : [],
  )
  const pods = dumps.flatMap(({ node, dump }) => podProblems(node, dump.capture ?? []))
  const holders = [
    ...dumps,
    ...waypoints.flatMap(({ node, answer }) => (answer.ok ? [{ node, dump: answer.value }] : [])),
  ]
  const certificates = {
    held: holders.reduce((sum, { dump }) => sum + dump.certificates.length, 0),
    problems: holders.flatMap(({ node, dump }) => certificateProblems(node, dump, now)),
  }
  return {
    components,
    nodes: dumps.map(({ node, dump }) => nodeStatus(node, dump)),
    waypoints: waypoints.flatMap(waypointTraffic),
    pods,
    certificates,
    isWell:
      components.every(({ isWell }) => isWell) &&
      pods.length === 0 &&
      certificates.problems.length === 0,
  }
}

/** Whether an agent holds something else than is offered: it may be under way, so it is worth a second look. */
export function isOutOfStep(status: MeshStatus): boolean {
  return status.components.some(({ state }) => state.startsWith(OUT_OF_STEP))
}

/** What people read. */
export function statusText(status: MeshStatus): readonly (string | Table)[] {
  const { components, nodes, waypoints, pods, certificates } = status
  const text: (string | Table)[] = [
    {
      heading: ['COMPONENT', 'NODE', 'POD', 'VERSION', 'STATE'],
      rows: components.map(({ component, node, pod, version, state }) => [
        component,
        node,
        pod,
        version,
        state,
      ]),
    },
    '',
    {
      heading: ['NODE', 'CAPTURED', 'WAITING', 'FAILED', 'OUTSIDE', 'CONNECTIONS'],
      rows: nodes.map(({ node, captured, waiting, failed, outside, connections }) => [
        node,
        ...[captured, waiting, failed, outside, connections].map(String),
      ]),
    },
  ]
  if (waypoints.length > 0)
    text.push('', {
      heading: ['WAYPOINT', 'POD', 'CALLS', 'REQUESTS', 'FAILED', 'DENIED'],
      rows: waypoints.map(({ waypoint, pod, calls, requests, failed, denied }) => [
        waypoint,
        pod,
        ...[calls, requests, failed, denied].map(String),
      ]),
    })
  if (pods.length > 0)
    text.push('', {
      heading: ['NODE', 'POD', 'STATE', 'REASON'],
      rows: pods.map(({ node, pod, state, reason }) => [node, pod, state, reason]),
    })
  if (certificates.problems.length > 0)
    text.push('', {
      heading: ['NODE', 'CERTIFICATE', 'PROBLEM'],
      rows: certificates.problems.map(({ node, identity, problem }) => [node, identity, problem]),
    })
  else text.push('', `${certificates.held} certificates, none near its end`)
  return text
}

/** An API server that is restarted is back in less. */
const STALE_SECONDS = 60
const OUT_OF_STEP = 'out of step'

function controllerStatus({ pod, node, answer }: ControllerAnswer): ComponentStatus {
  const about = { component: 'controller', node, pod } as const
  if (!answer.ok)
    return { ...about, version: UNKNOWN, state: `no answer: ${answer.error}`, isWell: false }
  const { version, isLeader, pending, stale = {} } = answer.value
  if (pending.length > 0)
    return { ...about, version, state: `not ready: waits for ${pending.join(', ')}`, isWell: false }
  const role = isLeader ? 'leader' : 'stands by'
  const unheard = Object.entries(stale).filter(([, seconds]) => seconds >= STALE_SECONDS)
  if (unheard.length === 0) return { ...about, version, state: role, isWell: true }
  const kinds = unheard.map(([kind, seconds]) => `${kind} for ${seconds} s`)
  return {
    ...about,
    version,
    state: `${role}, has not heard of ${kinds.join(', ')}`,
    isWell: false,
  }
}

function agentStatus(
  { pod, node, answer, chainProblem }: AgentAnswer<ConfigDump>,
  offered: Resources | undefined,
): ComponentStatus {
  const about = { component: 'agent', node, pod } as const
  if (!answer.ok)
    return { ...about, version: UNKNOWN, state: `no answer: ${answer.error}`, isWell: false }
  const { discovery, pending = [], version } = answer.value
  const known = { ...about, version: version?.version ?? UNKNOWN }
  const problem =
    standingProblem(discovery, pending, differingTypes(discovery?.resources, offered)) ??
    chainProblem
  return { ...known, state: problem ?? 'in step', isWell: problem === undefined }
}

function waypointStatus(
  { namespace, pod, node, answer }: WaypointAnswer,
  offered: Resources | undefined,
): ComponentStatus {
  const about = { component: 'waypoint', node, pod: `${namespace}/${pod}` } as const
  if (!answer.ok)
    return { ...about, version: UNKNOWN, state: `no answer: ${answer.error}`, isWell: false }
  const { discovery, pending, version } = answer.value
  const differing = differingTypes(ofAll(discovery.resources), offered)
  const problem = standingProblem(discovery, pending, differing)
  return {
    ...about,
    version: version.version,
    state: problem ?? 'in step',
    isWell: problem === undefined,
  }
}

/** Of routes and policies a waypoint has its own share, which is compared with nothing that is offered. */
function ofAll(resources: Resources): Resources {
  return Object.fromEntries(Object.entries(resources).filter(([type]) => type === ADDRESS.typeUrl))
}

function waypointTraffic({
  namespace,
  gateway,
  pod,
  answer,
}: WaypointAnswer): readonly WaypointStatus[] {
  if (!answer.ok) return []
  const { tunnels, traffic } = answer.value
  return [{ waypoint: `${namespace}/${gateway}`, pod, calls: tunnels, ...traffic }]
}

/** What keeps it from being well; undefined: nothing. */
function standingProblem(
  discovery: DumpedDiscovery | undefined,
  pending: readonly string[],
  differing: readonly string[],
): string | undefined {
  if (discovery !== undefined && discovery.state !== 'connected')
    return `without control plane since ${discovery.since}${discovery.reason === undefined ? '' : `: ${discovery.reason}`}`
  if (pending.length > 0) return `not ready: waits for ${pending.join(', ')}`
  return differing.length > 0 ? `${OUT_OF_STEP}: ${differing.join(', ')}` : undefined
}

/** What the leader offers; without one, what most agents hold. */
function offeredResources(
  controllers: readonly ControllerAnswer[],
  agents: readonly AgentAnswer<ConfigDump>[],
): Resources | undefined {
  const answers = controllers.flatMap(({ answer }) => (answer.ok ? [answer.value] : []))
  const leader = answers.find(({ isLeader }) => isLeader) ?? answers[0]
  if (leader !== undefined) return leader.resources
  const held = agents.flatMap(({ answer }) =>
    answer.ok && answer.value.discovery !== undefined ? [answer.value.discovery.resources] : [],
  )
  const counts = new Map<string, { count: number; readonly of: Resources }>()
  for (const resources of held) {
    const key = JSON.stringify(Object.entries(resources).toSorted())
    const known = counts.get(key) ?? { count: 0, of: resources }
    counts.set(key, { ...known, count: known.count + 1 })
  }
  return [...counts.values()].toSorted((one, other) => other.count - one.count)[0]?.of
}

/** By the last word of their URLs; types that one side does not know are not compared. */
function differingTypes(
  held: Resources | undefined,
  offered: Resources | undefined,
): readonly string[] {
  if (held === undefined || offered === undefined) return []
  return Object.entries(held)
    .filter(([type, { digest }]) => offered[type] !== undefined && offered[type].digest !== digest)
    .map(([type]) => type.slice(type.lastIndexOf('.') + 1))
}

function nodeStatus(node: string, dump: ConfigDump): NodeStatus {
  const count = (...states: readonly string[]): number =>
    (dump.capture ?? []).filter(({ state }) => states.includes(state)).length
  return {
    node,
    captured: count('captured'),
    waiting: count('waiting'),
    failed: count('failed', 'cutOff'),
    outside: count('outside'),
    connections: Object.values(dump.workloadState).reduce(
      (sum, { connections }) =>
        sum + (connections?.inbound.length ?? 0) + (connections?.outbound.length ?? 0),
      0,
    ),
  }
}

function podProblems(node: string, standings: readonly DumpedStanding[]): readonly PodProblem[] {
  return standings
    .filter(({ state }) => state === 'failed' || state === 'cutOff')
    .map(({ namespace, name, state, reason = '' }) => ({
      node,
      pod: `${namespace}/${name}`,
      state: state === 'cutOff' ? 'cut off' : state,
      reason,
    }))
}

function certificateProblems(
  node: string,
  { certificates }: Pick<ConfigDump, 'certificates'>,
  now: Date,
): readonly CertificateProblem[] {
  return certificates.flatMap(({ identity, state, certChain }) => {
    const [leaf] = certChain
    if (leaf?.validFrom === undefined || leaf.expirationTime === undefined)
      return state === 'Initializing' ? [] : [{ node, identity, problem: state }]
    const end = new Date(leaf.expirationTime).getTime()
    const life = end - new Date(leaf.validFrom).getTime()
    const left = end - now.getTime()
    if (left >= life * NEAR_END) return []
    const problem =
      left <= 0 ? `ended at ${leaf.expirationTime}` : `ends at ${leaf.expirationTime}, not renewed`
    return [{ node, identity, problem }]
  })
}
