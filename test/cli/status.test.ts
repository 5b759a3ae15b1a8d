// SPDX-License-Identifier: Apache-2.0
// `ambit status`: what it calls well, and what it names when something is not.

import t from 'tap'
import type { AgentAnswer } from '../../cli/cluster/agents.ts'
import type { ControllerAnswer } from '../../cli/cluster/controllers.ts'
import type { ConfigDump } from '../../cli/dump/config-dump.ts'
import { isOutOfStep, meshStatus, statusText } from '../../cli/tables/status.ts'
import { err, ok } from '../../mesh/result.ts'
import { HTTP_ROUTES } from '../../mesh/xds/types/http-routes.ts'
import { shopDump } from './dumps.ts'

const ADDRESS = 'type.googleapis.com/istio.workload.Address'
const NOW = new Date('2026-01-01T06:00:00Z')
const held = (digest: string) => ({ [ADDRESS]: { count: 7, digest } })

const sound = (overrides: Partial<ConfigDump> = {}): ConfigDump => {
  const dump = shopDump(overrides)
  return overrides.certificates === undefined
    ? { ...dump, certificates: dump.certificates.slice(0, 1) }
    : dump
}

const agent = (node: string, dump: ConfigDump | string): AgentAnswer<ConfigDump> => ({
  pod: `ambit-agent-${node}`,
  node,
  isReady: true,
  restarts: 0,
  answer: typeof dump === 'string' ? err(dump) : ok(dump),
})

const controller = (
  digest: string,
  isLeader = true,
  stale: Readonly<Record<string, number>> = {},
): ControllerAnswer => ({
  pod: 'ambit-controller-1',
  node: 'node-a',
  answer: ok({
    version: '0.1.0',
    isLeader,
    pending: [],
    stale,
    rootNotAfter: '2036-01-01T00:00:00Z',
    resources: held(digest),
  }),
})

const statesOf = (...of: Parameters<typeof meshStatus>) =>
  meshStatus(...of).components.map(({ state }) => state)

void t.test('all well: leader, agents in step, pods counted', (t) => {
  const status = meshStatus([controller('aa')], [agent('node-a', sound())], NOW)
  t.strictSame(status.isWell, true)
  t.strictSame(
    status.components.map(({ state }) => state),
    ['leader', 'in step'],
  )
  t.strictSame(status.nodes, [
    { node: 'node-a', captured: 2, waiting: 0, failed: 0, outside: 1, connections: 3 },
  ])
  t.match(statusText(status).at(-1), /1 certificates, none near its end/)
  t.end()
})

void t.test(
  'waypoints have rows: in step by what all are told, with requests, failures and denials',
  (t) => {
    const waypoint = (pod: string, digest: string, pending: readonly string[] = []) => ({
      namespace: 'shop',
      pod,
      gateway: 'way',
      node: 'node-b',
      answer: ok({
        policies: [],
        unreadablePolicies: [],
        certificates: [],
        discovery: {
          address: '',
          state: 'connected',
          since: '',
          isSynced: true,
          // Of routes it has those of what it serves: that is less than is offered.
          resources: { ...held(digest), [HTTP_ROUTES.typeUrl]: { count: 1, digest: 'of its own' } },
        },
        pending,
        tunnels: 2,
        openCalls: [],
        moreCalls: 0,
        traffic: { requests: 9, failed: 1, denied: 2 },
        version: { version: '0.1.0' },
      }),
    })
    const silent = { ...waypoint('way-3', 'aa'), answer: err('ECONNREFUSED') }
    const offered = controller('aa')
    if (!offered.answer.ok) throw new Error('it answers')
    const resources = {
      ...offered.answer.value.resources,
      [HTTP_ROUTES.typeUrl]: { count: 9, digest: 'of all' },
    }
    const leader = { ...offered, answer: ok({ ...offered.answer.value, resources }) }
    const agents = [agent('node-a', sound())]
    const well = meshStatus([leader], agents, NOW, [waypoint('way-1', 'aa')])
    t.ok(well.isWell)
    t.match(well.components.at(-1), { component: 'waypoint', pod: 'shop/way-1', state: 'in step' })
    t.match(statusText(well)[4], {
      heading: ['WAYPOINT', 'POD', 'CALLS', 'REQUESTS', 'FAILED', 'DENIED'],
      rows: [['shop/way', 'way-1', '2', '9', '1', '2']],
    })
    const ill = [waypoint('way-1', 'bb'), waypoint('way-2', 'aa', ['HBONE']), silent]
    t.strictSame(statesOf([leader], agents, NOW, ill).slice(2), [
      'out of step: Address',
      'not ready: waits for HBONE',
      'no answer: ECONNREFUSED',
    ])
    t.end()
  },
)

void t.test('an agent that does not answer is named, and the others are shown', (t) => {
  const status = meshStatus(
    [controller('aa')],
    [agent('node-a', sound()), agent('node-b', 'ECONNREFUSED')],
    NOW,
  )
  t.equal(status.isWell, false)
  t.match(status.components[2], { node: 'node-b', state: 'no answer: ECONNREFUSED' })
  t.equal(status.nodes.length, 1)
  t.end()
})

void t.test('an agent that holds something else than is offered is out of step, by type', (t) => {
  const status = meshStatus([controller('bb')], [agent('node-a', sound())], NOW)
  t.match(status.components[1], { state: 'out of step: Address', isWell: false })
  t.ok(isOutOfStep(status))
  t.notOk(isOutOfStep(meshStatus([controller('aa')], [agent('node-a', sound())], NOW)))

  // Under another control plane there is nobody to ask: then most agents are right.
  const other = shopDump().discovery
  if (other === undefined) return
  const odd = sound({ discovery: { ...other, resources: held('cc') } })
  t.strictSame(statesOf([], [agent('a', sound()), agent('b', odd), agent('c', sound())], NOW), [
    'in step',
    'out of step: Address',
    'in step',
  ])
  t.end()
})

void t.test('a node on which new pods start without the CNI plugin is not well', (t) => {
  const unchained = { ...agent('node-a', sound()), chainProblem: 'no list of plugins' }
  const status = meshStatus([controller('aa')], [unchained], NOW)
  t.match(status.components[1], { state: 'no list of plugins', isWell: false })
  t.equal(status.isWell, false)
  t.end()
})

void t.test('an agent without control plane says since when and why', (t) => {
  const discovery = shopDump().discovery
  if (discovery === undefined) return
  const lost = { ...discovery, state: 'disconnected', reason: 'UNAVAILABLE: refused' }
  t.strictSame(statesOf([], [agent('a', sound({ discovery: lost }))], NOW), [
    'without control plane since 2026-01-01T00:00:00Z: UNAVAILABLE: refused',
  ])
  t.strictSame(statesOf([], [agent('a', sound({ pending: ['xDS'] }))], NOW), [
    'not ready: waits for xDS',
  ])
  t.end()
})

void t.test(
  'pods that could not be brought in, and certificates near their end, are named',
  (t) => {
    const failed = {
      uid: 'u',
      namespace: 'shop',
      name: 'web',
      state: 'failed',
      reason: 'port 15008',
    }
    const dump = shopDump({ capture: [failed, { ...failed, name: 'cut', state: 'cutOff' }] })
    const status = meshStatus([controller('aa')], [agent('node-a', dump)], NOW)
    t.equal(status.isWell, false)
    t.strictSame(status.pods, [
      { node: 'node-a', pod: 'shop/web', state: 'failed', reason: 'port 15008' },
      { node: 'node-a', pod: 'shop/cut', state: 'cut off', reason: 'port 15008' },
    ])
    t.match(status.certificates.problems, [{ problem: 'Unavailable: no pod of it' }])

    const problems = (now: string) =>
      meshStatus([controller('aa')], [agent('node-a', sound())], new Date(now)).certificates
        .problems
    t.strictSame(problems('2026-01-01T17:00:00Z'), [], 'more than a quarter of its day is left')
    t.match(problems('2026-01-01T19:00:00Z'), [{ problem: /^ends at .*not renewed/ }])
    t.match(problems('2026-01-02T01:00:00Z'), [{ problem: /^ended at/ }])
    t.end()
  },
)

void t.test('a controller that hears nothing of the cluster is not well', (t) => {
  const agents = [agent('node-a', sound())]
  const brief = meshStatus([controller('aa', true, { Pod: 5 })], agents, NOW)
  t.equal(brief.isWell, true, 'an API server may be restarted')
  const stale = { Pod: 90, Service: 75, Node: 3 }
  const status = meshStatus([controller('aa', false, stale)], agents, NOW)
  t.equal(status.isWell, false)
  t.equal(status.components[0]?.state, 'stands by, has not heard of Pod for 90 s, Service for 75 s')
  t.end()
})
