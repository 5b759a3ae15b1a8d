// SPDX-License-Identifier: Apache-2.0
// From what agents say to the graph: who calls whom, how much, by what authenticated, and who was refused. Pure.

import t from 'tap'
import fc from 'fast-check'
import { CounterWindow } from '../../cli/dashboard/model/counter-window.ts'
import { graphEdges, graphView } from '../../cli/dashboard/model/graph.ts'
import { NO_MESH, readMeshFacts } from '../../cli/dashboard/model/mesh-facts.ts'
import type { AgentSnapshot } from '../../cli/dashboard/model/snapshot.ts'
import {
  readRequests,
  readTraffic,
  type TrafficCounts,
} from '../../cli/dashboard/model/traffic-series.ts'
import { type Call, metrics, requestMetrics } from './pretend-cluster.ts'

const CALL: Call = {
  from: 'shop/frontend',
  to: 'shop/catalog',
  security: 'mutual_tls',
  perSecond: 2,
  flag: '-',
}

function agent(totals: TrafficCounts, rates: TrafficCounts = new Map()): AgentSnapshot {
  return {
    node: 'node-a',
    pod: 'ambit-agent-a',
    isReady: true,
    restarts: 0,
    answeredAt: 1,
    silent: undefined,
    facts: undefined,
    totals,
    rates,
  }
}

const countsOf = (calls: readonly Call[], reported: readonly string[], seconds: number) =>
  readTraffic(metrics(calls, reported, seconds))

void t.test('a connection that both ends count is shown once', (t) => {
  const source = countsOf([CALL], ['shop/frontend'], 10)
  const destination = countsOf([CALL], ['shop/catalog'], 10)
  const both = graphEdges([agent(source), agent(destination)])
  t.equal(both.length, 1)
  t.match(both[0], { from: 'shop/frontend', to: 'shop/catalog', security: 'mutual_tls' })
  t.equal(both[0]?.totals.opened, 23)
  t.strictSame(graphEdges([agent(source)]), both, 'with one end alone nothing is lost')
  t.strictSame(graphEdges([agent(destination)]), both)
  t.end()
})

void t.test('requests go into a waypoint and, unless it answers them itself, out of it', (t) => {
  const totals = readRequests(requestMetrics('shop/frontend', 'shop/catalog', 10), 'shop/way')
  const edges = graphEdges([agent(totals)])
  t.strictSame(
    edges.map(({ from, to }) => `${from} ${to}`),
    ['shop/frontend shop/way', 'shop/way shop/catalog'],
  )
  const [into, out] = edges
  t.match(into, { security: 'mutual_tls', totals: { opened: 0, denials: 0, errors: 0 } })
  t.match(into?.totals, { requests: 115, failedRequests: 5, deniedRequests: 10 })
  t.match(out?.totals, { requests: 105, failedRequests: 5, deniedRequests: 0 })

  const window = new CounterWindow(15_000)
  const at = (seconds: number): void =>
    window.push(
      seconds * 1_000,
      readRequests(requestMetrics('shop/frontend', 'shop/catalog', seconds), 'shop/way'),
    )
  at(0)
  at(2)
  t.match(graphEdges([agent(new Map(), window.rates(2_000))])[0]?.rates, {
    requests: 11,
    failedRequests: 0,
    deniedRequests: 1,
    connections: 0,
  })
  t.strictSame(readRequests('istio_requests_total{} x\nnonsense\n', 'shop/way'), new Map())
  t.end()
})

void t.test('a refusal is a denial and no error, though the caller only sees a failure', (t) => {
  const denied = { ...CALL, flag: 'DENY' }
  const [edge] = graphEdges([
    agent(countsOf([denied], ['shop/frontend'], 0)),
    agent(countsOf([denied], ['shop/catalog'], 0)),
  ])
  t.match(edge, { security: 'unused', totals: { denials: 3, errors: 0, opened: 0 } })
  const failed = { ...CALL, flag: 'CONNECT' }
  t.match(graphEdges([agent(countsOf([failed], ['shop/frontend'], 0))])[0]?.totals, {
    denials: 0,
    errors: 3,
  })
  t.end()
})

void t.test('an edge is as weak as the weakest of its connections', (t) => {
  const plain = { ...CALL, security: 'unknown' } as const
  const local = { ...CALL, security: 'node_local' } as const
  const edge = (...calls: Call[]) =>
    graphEdges([agent(countsOf(calls, ['shop/catalog'], 1))])[0]?.security
  t.equal(edge(CALL), 'mutual_tls')
  t.equal(edge(CALL, local), 'node_local')
  t.equal(edge(local, plain, CALL), 'plaintext')
  t.end()
})

void t.test('rates are what counters grew by, also over a restart of the agent', (t) => {
  const window = new CounterWindow(15_000)
  const opened = () => [...window.rates(20_000).values()][0]?.counts.opened
  window.push(10_000, countsOf([CALL], ['shop/catalog'], 100))
  t.equal(opened(), undefined, 'what there was before tells nothing of when')
  window.push(15_000, countsOf([CALL], ['shop/catalog'], 110))
  t.equal(opened(), 4, '20 in 5 s')
  window.push(20_000, countsOf([CALL], ['shop/catalog'], 1))
  t.equal(opened(), 2.5, 'the new agent has counted 5 more, in 10 s')
  t.equal(window.rates(35_000).size, 0, 'what is old is no rate of today')
  t.end()
})

void t.test('rates never fall below nothing, whatever the counters do', (t) => {
  fc.assert(
    fc.property(fc.array(fc.nat(1_000), { minLength: 2, maxLength: 12 }), (seconds) => {
      const window = new CounterWindow(60_000)
      for (const [at, each] of seconds.entries())
        window.push(1_000 * (at + 1), countsOf([CALL], ['shop/catalog'], each))
      for (const { counts } of window.rates(1_000 * seconds.length).values())
        for (const rate of Object.values(counts)) t.ok(rate >= 0 && Number.isFinite(rate))
    }),
    { numRuns: 50 },
  )
  t.end()
})

void t.test('a label may hold anything, and comes out as it went in', (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', minLength: 1 }), (name) => {
      if (name.includes('/')) return
      const counts = countsOf([{ ...CALL, to: `shop/${name}` }], ['shop/frontend'], 1)
      t.strictSame(
        [...counts.values()].map(({ key }) => key.to),
        [`shop/${name}`],
      )
    }),
  )
  t.end()
})

void t.test('lines that are no series of ours change nothing', (t) => {
  const odd = [
    'istio_tcp_connections_opened_total{source_workload="x"} NaN',
    'istio_tcp_connections_opened_total{source_workload="x"} -4',
    'istio_tcp_connections_opened_total{',
    'process_cpu_seconds_total 4',
    '<html>',
  ]
  t.equal(readTraffic(odd.join('\n')).size, 0)
  t.end()
})

void t.test(
  'workloads are nodes also without traffic, and what traffic names without pods is one',
  (t) => {
    const workload = (name: string, status: string) => ({
      uid: name,
      namespace: 'shop',
      name,
      workloadName: 'catalog',
      workloadIps: [],
      status,
    })
    const mesh = readMeshFacts({
      workloads: [workload('catalog-1', 'Healthy'), workload('catalog-2', 'Unhealthy')],
      services: [],
      policies: [],
    })
    if (!mesh.ok) throw new Error(mesh.error)
    const unknown = { ...CALL, from: 'unknown/unknown' }
    const snapshot = {
      at: 1,
      windowSeconds: 15,
      problem: undefined,
      agents: [agent(countsOf([unknown], ['shop/catalog'], 1))],
      waypoints: [],
      mesh: mesh.value,
      audit: [],
    }
    const { nodes } = graphView(snapshot)
    t.match(nodes, [
      { id: 'shop/catalog', pods: 2, troubles: 1, isUnknown: false },
      { id: 'unknown/unknown', pods: 0, isUnknown: true },
    ])
    t.strictSame(graphView({ ...snapshot, agents: [], mesh: NO_MESH }).nodes, [])
    t.end()
  },
)
