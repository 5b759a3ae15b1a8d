// SPDX-License-Identifier: Apache-2.0
// The graph of who calls whom: a node for each workload that discovery knows and for each peer that traffic names, an edge for each pair
// between which there was traffic. Both ends of a connection count it; an edge shows what the one that has seen more of it counts, so
// that it is neither shown twice nor lost with one agent. Pure.

import type { GraphEdge, GraphNode, GraphView, Rates, Security, Totals } from '../view.ts'
import { addTo } from './counter-window.ts'
import type { AgentSnapshot, Snapshot } from './snapshot.ts'
import { standingOf } from './standing.ts'
import {
  type Counts,
  noCounts,
  type SeriesKey,
  type TrafficCounts,
  UNKNOWN,
} from './traffic-series.ts'

/** Weakest last. */
const BY_STRENGTH: readonly SeriesKey['security'][] = ['mutual_tls', 'node_local', 'plaintext']

/** Computes it. */
export function graphView(snapshot: Snapshot): GraphView {
  const edges = graphEdges([...snapshot.agents, ...snapshot.waypoints])
  return { ...standingOf(snapshot), nodes: graphNodes(snapshot, edges), edges }
}

interface Ends {
  readonly source: Counts
  readonly destination: Counts
  readonly waypoint: Counts
}

interface Edge {
  readonly from: string
  readonly to: string
  readonly totals: Ends
  readonly rates: Ends
  readonly opened: Map<SeriesKey['security'], number>
  /** How those who asked by requests were authenticated. */
  readonly asked: Set<SeriesKey['security']>
  readonly services: Set<string>
}

/** The edges, by their ends' names. */
export function graphEdges(
  counted: readonly Pick<AgentSnapshot, 'totals' | 'rates'>[],
): readonly GraphEdge[] {
  const sums = new Map<string, Edge>()
  const add = (series: TrafficCounts, what: 'totals' | 'rates'): void => {
    for (const { key, counts } of series.values()) {
      const id = JSON.stringify([key.from, key.to])
      const edge = sums.get(id) ?? newEdge(key)
      sums.set(id, edge)
      addTo(edge[what][key.reporter], counts)
      if (key.service !== '') edge.services.add(key.service)
      if (key.reporter === 'waypoint') edge.asked.add(key.security)
      else if (what === 'totals')
        edge.opened.set(key.security, (edge.opened.get(key.security) ?? 0) + counts.opened)
    }
  }
  for (const { totals, rates } of counted) {
    add(totals, 'totals')
    add(rates, 'rates')
  }
  return [...sums.values()]
    .map(({ from, to, totals, rates, opened, asked, services }) => ({
      from,
      to,
      services: [...services].sort(),
      security: weakest(opened, asked),
      rates: ratesOf(rates),
      totals: totalsOf(totals),
    }))
    .toSorted((one, other) => compare(one.from, other.from) || compare(one.to, other.to))
}

function newEdge({ from, to }: SeriesKey): Edge {
  const ends = (): Ends => ({
    source: noCounts(),
    destination: noCounts(),
    waypoint: noCounts(),
  })
  return {
    from,
    to,
    totals: ends(),
    rates: ends(),
    opened: new Map(),
    asked: new Set(),
    services: new Set<string>(),
  }
}

/** Where no agent counts connections, waypoints know how requests came. */
function weakest(opened: Edge['opened'], asked: Edge['asked']): Security {
  return (
    BY_STRENGTH.findLast((security) => (opened.get(security) ?? 0) > 0) ??
    BY_STRENGTH.findLast((security) => asked.has(security)) ??
    'unused'
  )
}

function totalsOf({ source, destination, waypoint }: Ends): Totals {
  const { requests, failedRequests, deniedRequests } = waypoint
  const larger = (name: keyof Counts): number => Math.max(source[name], destination[name])
  return {
    opened: larger('opened'),
    closed: larger('closed'),
    requestBytes: larger('requestBytes'),
    responseBytes: larger('responseBytes'),
    denials: larger('denials'),
    // Who was refused at the far end has an error at the near one: the same event, and it is told as a denial.
    errors: Math.max(destination.errors, source.errors - destination.denials, 0),
    requests,
    failedRequests,
    deniedRequests,
  }
}

function ratesOf(ends: Ends): Rates {
  const { opened, closed: _closed, ...rest } = totalsOf(ends)
  return { connections: opened, ...rest }
}

/** The workloads, and what traffic names besides, by namespace and name. */
function graphNodes(
  { mesh, agents, waypoints }: Snapshot,
  edges: readonly GraphEdge[],
): readonly GraphNode[] {
  const ofWaypoints = new Set(waypoints.map(({ waypoint }) => waypoint))
  const standings = new Map<string, string>()
  for (const { facts } of agents)
    for (const { namespace, name, state } of facts?.standings ?? [])
      standings.set(`${namespace}/${name}`, state)
  const byId = Map.groupBy(mesh.workloads, ({ namespace, owner }) => `${namespace}/${owner}`)
  const nodes: GraphNode[] = []
  for (const [id, workloads] of byId) {
    const [first] = workloads
    if (first === undefined) continue
    const states = workloads.map(({ namespace, name }) => standings.get(`${namespace}/${name}`))
    nodes.push({
      id,
      namespace: first.namespace,
      name: first.owner,
      isUnknown: false,
      isWaypoint: ofWaypoints.has(id),
      services: [...new Set(workloads.flatMap(({ services }) => services))].sort(),
      pods: workloads.length,
      captured: states.every((state) => state === undefined)
        ? undefined
        : states.filter((state) => state === 'captured').length,
      troubles: workloads.filter(
        ({ isHealthy }, at) => !isHealthy || states[at] === 'failed' || states[at] === 'cutOff',
      ).length,
    })
  }
  for (const id of new Set(edges.flatMap(({ from, to }) => [from, to])))
    if (!byId.has(id)) nodes.push(namedByTraffic(id, ofWaypoints.has(id)))
  return nodes.toSorted(
    (one, other) => compare(one.namespace, other.namespace) || compare(one.name, other.name),
  )
}

/** A workload that has gone, or what is not in the mesh's view at all. */
function namedByTraffic(id: string, isWaypoint: boolean): GraphNode {
  const slash = id.indexOf('/')
  return {
    id,
    namespace: id.slice(0, slash),
    name: id.slice(slash + 1),
    isUnknown: id === `${UNKNOWN}/${UNKNOWN}`,
    isWaypoint,
    services: [],
    pods: 0,
    captured: undefined,
    troubles: 0,
  }
}

/** By code units, as it is everywhere alike. */
function compare(one: string, other: string): number {
  return one < other ? -1 : Number(one > other)
}
