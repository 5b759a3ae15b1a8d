// SPDX-License-Identifier: Apache-2.0
// The tables of the commands, by istioctl's columns and words.

import t from 'tap'
import type { WaypointAnswer } from '../../cli/cluster/waypoint-dumps.ts'
import { readConfigDump } from '../../cli/dump/config-dump.ts'
import { readWaypointDump, type WaypointDump } from '../../cli/dump/waypoint-dump.ts'
import { certificateTable, identitiesOf } from '../../cli/tables/certificates.ts'
import {
  connectionTable,
  podsWithConnections,
  waypointConnectionRows,
} from '../../cli/tables/connections.ts'
import { levelTable, logFilter } from '../../cli/tables/logs.ts'
import { policyTable, waypointPoliciesOf, waypointPolicyRows } from '../../cli/tables/policies.ts'
import { serviceTable } from '../../cli/tables/services.ts'
import { workloadsOf, workloadTable } from '../../cli/tables/workloads.ts'
import { err, ok } from '../../mesh/result.ts'
import { shopDump } from './dumps.ts'

void t.test('workloads: by namespace and name, with the waypoint of each', (t) => {
  t.strictSame(workloadTable(shopDump(), {}), {
    heading: ['NAMESPACE', 'POD NAME', 'ADDRESS', 'NODE', 'WAYPOINT', 'PROTOCOL'],
    rows: [
      ['legacy', 'db', 'db.example', 'node-a', 'None', 'TCP'],
      ['shop', 'catalog', '10.244.0.4', 'node-a', 'gate', 'HBONE'],
      ['shop', 'catalog-ill', '10.244.0.5', 'node-b', 'None', 'HBONE'],
      ['shop', 'frontend', '10.244.0.3', 'node-a', 'None', 'HBONE'],
    ],
  })
  const names = (filter: object) => workloadsOf(shopDump(), filter).map(({ name }) => name)
  t.strictSame(names({ workloadNamespace: 'legacy' }), ['db'])
  t.strictSame(names({ workloadNode: 'node-b' }), ['catalog-ill'])
  t.strictSame(names({ address: '10.244.0.3' }), ['frontend'])
  t.end()
})

void t.test('services: all addresses, and how many of the endpoints are healthy', (t) => {
  t.strictSame(serviceTable(shopDump(), {}), {
    heading: ['NAMESPACE', 'SERVICE NAME', 'SERVICE VIP', 'WAYPOINT', 'ENDPOINTS'],
    rows: [
      ['legacy', 'db', '', 'NA', '0/0'],
      ['shop', 'catalog', '10.96.0.1,fd00::1', 'gate', '1/3'],
      ['shop', 'gate', '10.96.0.2', 'None', '0/0'],
    ],
  })
  t.equal(serviceTable(shopDump(), { serviceNamespace: 'shop' }).rows.length, 2)
  t.end()
})

void t.test('policies: what is on trial, of audit or unreadable says so', (t) => {
  t.strictSame(policyTable(shopDump(), {}), {
    heading: ['NAMESPACE', 'POLICY NAME', 'ACTION', 'SCOPE'],
    rows: [
      ['istio-system', 'watch', 'Audit', 'Global'],
      ['shop', 'a', 'Deny (dry run)', 'Namespace'],
      ['shop', 'b', 'Allow', 'WorkloadSelector'],
      ['shop', 'odd', 'unreadable: closed', '-'],
    ],
  })
  t.equal(policyTable(shopDump(), { policyNamespace: 'istio-system' }).rows.length, 1)
  t.end()
})

void t.test(
  'certificates: each of a chain, valid by the clock, serial numbers as openssl has them',
  (t) => {
    const identities = identitiesOf([shopDump()])
    const { rows } = certificateTable(identities, new Date('2026-01-01T12:00:00Z'))
    t.strictSame(
      rows.map((row) => row.slice(1, 5)),
      [
        ['NA', 'Unavailable', 'false', 'NA'],
        ['Leaf', 'Available', 'true', 'ff'],
        ['Intermediate', 'Available', 'true', '10'],
        ['Root', 'Available', 'true', '1'],
      ],
    )
    const later = certificateTable(identities, new Date('2026-01-03T00:00:00Z'))
    t.equal(later.rows[1]?.[3], 'false', 'a leaf that has ended')
    t.end()
  },
)

void t.test('connections: addresses by their names, Services first; raw as they are', (t) => {
  t.strictSame(connectionTable(shopDump(), {}).rows, [
    [
      'app.shop',
      'Outbound',
      'frontend.shop:40000',
      'catalog.shop:15008',
      'catalog.shop.svc.cluster.local:80',
      'HBONE',
    ],
    [
      'app.shop',
      'Outbound',
      '[fd00::3]:1',
      'catalog.shop.svc.cluster.local:80',
      'catalog.shop.svc.cluster.local:80',
      'TCP',
    ],
    [
      'catalog.shop',
      'Inbound',
      'catalog.shop:15008',
      'frontend.shop:40000',
      '10.244.0.4:8080',
      'HBONE',
    ],
  ])
  const inbound = connectionTable(shopDump(), { direction: 'inbound', raw: true })
  t.strictSame(inbound.rows, [
    ['catalog.shop', 'Inbound', '10.244.0.4:15008', '10.244.0.3:40000', '10.244.0.4:8080', 'HBONE'],
  ])
  t.strictSame(podsWithConnections(shopDump(), { workloadNamespace: 'other' }), [])
  t.end()
})

const way = (pod: string, answer: Partial<WaypointDump> | string): WaypointAnswer => ({
  namespace: 'shop',
  pod,
  gateway: 'way',
  node: 'node-b',
  answer:
    typeof answer === 'string'
      ? err(answer)
      : ok({
          policies: [],
          unreadablePolicies: [],
          certificates: [],
          discovery: { address: '', state: 'connected', since: '', isSynced: true, resources: {} },
          pending: [],
          tunnels: 2,
          openCalls: [],
          moreCalls: 0,
          traffic: { requests: 9, failed: 1, denied: 2 },
          version: { version: '0.1.0' },
          ...answer,
        }),
})

void t.test(
  'connections of waypoints stand beside those of pods, and those left out are counted',
  (t) => {
    const src = '10.244.0.3:40000'
    const waypoints = [
      way('way-1', {
        openCalls: [
          { src, dst: '10.96.0.1:80', servedAs: 'requests', seconds: 3 },
          { src, dst: '10.96.0.1:81', servedAs: 'bytes', endpoint: '10.244.0.4:8080', seconds: 0 },
        ],
        moreCalls: 7,
      }),
      way('way-2', 'ECONNREFUSED'),
    ]
    const catalog = 'catalog.shop.svc.cluster.local'
    const name = 'way-1.shop'
    t.strictSame(waypointConnectionRows(waypoints, shopDump(), {}), [
      [name, 'Waypoint', '', 'frontend.shop:40000', `${catalog}:80`, 'HBONE, requests'],
      [
        name,
        'Waypoint',
        'catalog.shop:8080',
        'frontend.shop:40000',
        `${catalog}:81`,
        'HBONE, as it is',
      ],
      [name, 'Waypoint', '', 'and 7 more', '', 'HBONE'],
    ])
    t.strictSame(waypointConnectionRows(waypoints, shopDump(), { direction: 'outbound' }), [])
    t.strictSame(waypointConnectionRows(waypoints, shopDump(), { workloadNamespace: 'other' }), [])
    t.end()
  },
)

void t.test('policies of waypoints stand there once, by what they are attached to', (t) => {
  const policy = (name: string, more: Partial<WaypointDump['policies'][number]> = {}) => ({
    key: `shop/${name}`,
    namespace: 'shop',
    name,
    action: 'deny',
    isDryRun: false,
    isAudit: false,
    targets: [{ kind: 'service', namespace: 'shop', name: 'catalog' } as const],
    ...more,
  })
  const gateway = { kind: 'waypoint', namespace: 'shop', name: 'way' } as const
  const policies = [
    policy('no-admin'),
    policy('all', { action: 'allow', isDryRun: true, targets: [gateway] }),
  ]
  const unreadablePolicies = [{ key: 'shop/odd', reason: 'rules: is too deep' }]
  const waypoints = [way('way-1', { policies, unreadablePolicies }), way('way-2', { policies })]
  t.strictSame(waypointPolicyRows(waypoints, {}), [
    ['shop', 'all', 'Allow (dry run)', 'Gateway shop/way'],
    ['shop', 'no-admin', 'Deny', 'Service shop/catalog'],
    ['shop', 'odd', 'unreadable: closed', 'waypoints'],
  ])
  t.match(waypointPoliciesOf(waypoints, {}), [{ waypoints: ['shop/way'] }, {}])
  t.strictSame(waypointPolicyRows(waypoints, { policyNamespace: 'other' }), [])
  t.match(readWaypointDump({ policies: [] }), {
    ok: false,
    error: 'its dump has no list "unreadablePolicies"',
  })
  t.end()
})

void t.test('lines of a log pass by part and text; levels stand by node', (t) => {
  const access = '{"component":"access","dst.workload":"catalog"}'
  const xds = '{"component":"agent","part":"xds","msg":"x"}'
  const lines = [access, xds, 'no JSON']
  const passing = (part?: string, grep?: string) => lines.filter(logFilter({ part, grep }))
  t.strictSame(passing(), lines)
  t.strictSame(passing('access'), [access])
  t.strictSame(passing('xds'), [xds])
  t.strictSame(passing('agent'), [])
  t.strictSame(passing('access', 'frontend'), [])
  t.strictSame(passing(undefined, 'JSON'), ['no JSON'])
  t.strictSame(
    levelTable([
      { node: 'a', levels: { parts: { xds: 'debug', access: 'info' } } },
      { node: 'b', levels: { parts: { xds: 'info' } } },
    ]),
    {
      heading: ['PART', 'A', 'B'],
      rows: [
        ['access', 'info', ''],
        ['xds', 'debug', 'info'],
      ],
    },
  )
  t.end()
})

void t.test('a file that is no config dump is refused by the field that is wrong', (t) => {
  t.match(readConfigDump(JSON.parse(JSON.stringify(shopDump()))), { ok: true })
  for (const [value, said] of [
    [[], /not an object/],
    [{}, /workloads is not a list/],
    [{ ...shopDump(), services: [{ name: 'x' }] }, /services\[0\]\.namespace is missing/],
    [{ ...shopDump(), workloadState: { u: {} } }, /workloadState\.u\.info is missing/],
  ] as const)
    t.match(readConfigDump(value), { ok: false, error: said })
  t.end()
})
