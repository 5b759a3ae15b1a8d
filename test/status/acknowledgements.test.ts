// SPDX-License-Identifier: Apache-2.0
// What replicas tell one another of their agents and waypoints, and what of it is believed.

import t from 'tap'
import { HeardReports } from '../../controller/status/acknowledgements/heard-reports.ts'
import {
  decodeReport,
  encodeReport,
  type Report,
  type ReportData,
  type Share,
  shareOf,
  withReported,
} from '../../controller/status/acknowledgements/report.ts'
import { agentsByNode } from '../../controller/status/enforcement.ts'
import { until } from '../support/until.ts'

type Versions = Iterable<readonly [string, string]>

const VERSIONS = [
  ['shop/one', 'v1'],
  ['shop/two', 'v1'],
] as const
const client = (node: string, behind: readonly string[] | undefined) => ({
  caller: { node },
  behind: () => behind,
})
const nodeOf = ({ node }: { readonly node: string }): string => node
const nobody = shareOf([], [], nodeOf)
const reportOf = (...[versions, clients]: [Versions, ReturnType<typeof client>[]]): Report => ({
  agents: shareOf(versions, clients, nodeOf),
  waypoints: nobody,
})
const names = (count: number): string[] => Array.from({ length: count }, (_, at) => `n/p${at}`)

function read(data: ReportData): Report {
  const report = decodeReport(data)
  if (report === undefined) throw new Error('it is a report')
  return report
}

/** Places whose followers have all acknowledged a policy, as a replica takes it that sends `versions`. */
function holders(share: Share, versions: Versions, key: string): string[] {
  const places = [...withReported(new Map(), [share], () => versions)]
  return places.flatMap(([place, each]) => (each.every((one) => one.isInStep(key)) ? [place] : []))
}

/** Nodes whose agents have acknowledged a policy, as a replica takes it that sends `versions`. */
function inStep(report: Report, versions: Versions, key: string): string[] {
  return holders(report.agents, versions, key)
}

void t.test(
  'a report says which nodes have acknowledged what, and survives its text',
  async (t) => {
    const clients = [
      client('c', undefined),
      client('a', []),
      client('b', ['shop/two']),
      client('d', []),
      client('d', ['shop/one']),
      client('e', names(21)),
    ]
    const data = encodeReport(reportOf(VERSIONS, clients))
    t.equal(data.nodes, 'a\nb shop/two\nc *\nd shop/one\ne *')
    t.strictSame(encodeReport(reportOf(VERSIONS.toReversed(), clients.toReversed())), data)
    const report = read(data)
    t.strictSame(inStep(report, VERSIONS, 'shop/one'), ['a', 'b'])
    t.strictSame(inStep(report, VERSIONS, 'shop/two'), ['a', 'd'])
  },
)

void t.test(
  'of a policy that the two sides send in different states nothing is believed',
  async (t) => {
    const report = read(encodeReport(reportOf(VERSIONS, [client('a', [])])))
    const newer = [['shop/one', 'v2'], VERSIONS[1]] as const
    t.strictSame(inStep(report, newer, 'shop/one'), [])
    t.strictSame(inStep(report, newer, 'shop/two'), ['a'], 'others are, all the same')
    t.strictSame(inStep(report, [VERSIONS[1]], 'shop/one'), [], 'nor where one side has none')
  },
)

void t.test('what is no report is none, and no report outgrows its ConfigMap', async (t) => {
  const good = encodeReport(reportOf(VERSIONS, [client('a', [])]))
  for (const data of [{}, { ...good, policies: 'x' }, { policies: good.policies }])
    t.equal(decodeReport(data), undefined)
  t.equal(decodeReport({ ...good, nodes: '' })?.agents.places.size, 0)
  const crowd = Array.from({ length: 20_000 }, (_, at) =>
    client(`node-${at}.${'x'.repeat(60)}`, []),
  )
  const large = encodeReport(reportOf(VERSIONS, crowd))
  t.ok(large.nodes.length <= 512 * 1024)
  t.ok(read(large).agents.places.size > 5_000)
})

void t.test('waypoints are told of beside the agents, within bounds of their own', async (t) => {
  const waypointVersions = [['shop/at-waypoint', 'v1']] as const
  const waypoints = shareOf(
    waypointVersions,
    [client('shop/w', []), client('shop/late', ['shop/at-waypoint'])],
    nodeOf,
  )
  const data = encodeReport({ agents: shareOf(VERSIONS, [client('a', [])], nodeOf), waypoints })
  t.equal(data.nodes, 'a')
  t.equal(data.waypoints, 'shop/late shop/at-waypoint\nshop/w')
  const holds = (versions: Versions): string[] =>
    holders(read(data).waypoints, versions, 'shop/at-waypoint')
  t.strictSame(holds(waypointVersions), ['shop/w'])
  t.strictSame(holds([['shop/at-waypoint', 'v2']]), [], 'of another state nothing is believed')

  const crowd = Array.from({ length: 20_000 }, (_, at) =>
    client(`shop/w-${at}-${'x'.repeat(60)}`, []),
  )
  const large = encodeReport({ agents: nobody, waypoints: shareOf([], crowd, nodeOf) })
  t.ok(large.waypoints.length <= 256 * 1024)
  t.ok(read(large).waypoints.places.size > 2_500)
})

void t.test('a controller of an older version tells of its agents only', async (t) => {
  const { policies, nodes } = encodeReport(reportOf(VERSIONS, [client('a', [])]))
  const report = decodeReport({ policies, nodes })
  t.strictSame(report && inStep(report, VERSIONS, 'shop/one'), ['a'])
  t.equal(report?.waypoints.places.size, 0)
})

void t.test('a node with agents at two replicas has a policy when both have', async (t) => {
  const here = agentsByNode([
    { caller: { node: 'a' }, isInStep: () => true },
    { caller: { node: 'b' }, isInStep: () => true },
  ])
  const report = read(
    encodeReport(reportOf(VERSIONS, [client('b', ['shop/one']), client('c', [])])),
  )
  const all = withReported(here, [report.agents], () => VERSIONS)
  const holds = (node: string) => all.get(node)?.every(({ isInStep }) => isInStep('shop/one'))
  t.strictSame(['a', 'b', 'c'].map(holds), [true, false, true])
  t.equal(here.get('b')?.length, 1, 'what is known here is not touched')
})

void t.test('only a replica whose beat moves is believed', async (t) => {
  let changes = 0
  const heard = new HeardReports(() => (changes += 1))
  t.teardown(() => heard.close())
  const data = encodeReport(reportOf(VERSIONS, [client('a', [])]))
  const believed = () => [...heard.believed()].length
  heard.take('one', { beat: '7', data })
  heard.take('one', { beat: '7', data })
  t.equal(believed(), 0, 'it may be of one that is long dead')
  heard.take('one', { beat: '8', data })
  t.equal(believed(), 1)
  t.equal(changes, 1)
  heard.take('one', { beat: '9', data })
  t.equal(changes, 1, 'a beat alone is no news')
  heard.take('one', { beat: '10', data: { ...data, nodes: 'a *' } })
  t.equal(changes, 2)
  heard.take('one', { beat: '11', data: { ...data, nodes: 'a *', waypoints: 'shop/w' } })
  t.equal(changes, 3, 'what waypoints have acknowledged is news too')
  heard.take('two', { beat: '1', data })
  heard.take('two', { beat: '2', data: { policies: 'from another version' } })
  t.equal(believed(), 1)
  t.strictSame(heard.silentFor(600_000), [])
  heard.drop('one')
  t.equal(believed(), 0)
})

void t.test(
  'a replica that falls silent is believed no longer, until it is heard again',
  async (t) => {
    let changes = 0
    const heard = new HeardReports(() => (changes += 1), 5)
    t.teardown(() => heard.close())
    const data = encodeReport(reportOf(VERSIONS, [client('a', [])]))
    heard.take('one', { beat: '1', data })
    heard.take('one', { beat: '2', data })
    const before = changes
    await until(() => changes > before, 'word that it is silent')
    t.equal([...heard.believed()].length, 0)
    t.strictSame(heard.silentFor(5), ['one'])
    const silent = changes
    heard.take('one', { beat: '3', data })
    t.equal(changes, silent + 1)
  },
)
