// SPDX-License-Identifier: Apache-2.0
// The pages of workloads and nodes, out of what agents say, however odd that is. Pure.

import t from 'tap'
import fc from 'fast-check'
import { mergeAudit, readAudit } from '../../cli/dashboard/model/audit.ts'
import { readLocalFacts } from '../../cli/dashboard/model/local-facts.ts'
import { readMeshFacts } from '../../cli/dashboard/model/mesh-facts.ts'
import { nodesView } from '../../cli/dashboard/model/pods.ts'
import { policyRules } from '../../cli/dashboard/model/policy-words.ts'
import type { Snapshot } from '../../cli/dashboard/model/snapshot.ts'
import { workloadView } from '../../cli/dashboard/model/workload.ts'
import { auditLine } from '../../mesh/audit/event.ts'

const LOCAL = {
  version: { version: '0.1.0' },
  capture: [{ namespace: 'shop', name: 'catalog-1', state: 'cutOff', reason: 'no worker' }],
  certificates: [
    {
      identity: 'spiffe://cluster.local/ns/shop/sa/catalog',
      state: 'Available',
      certChain: [{ serialNumber: '255', expirationTime: '2026-01-02T00:00:00Z' }],
    },
    { identity: 'spiffe://cluster.local/ns/shop/sa/new', state: 'Unavailable: no', certChain: [] },
  ],
  workloadState: {
    u: {
      info: { namespace: 'shop', name: 'catalog-1' },
      connections: {
        inbound: [
          {
            src: '10.0.0.2:4000',
            actualDst: '10.0.0.1:15008',
            originalDst: '10.0.0.1:8080',
            protocol: 'HBONE',
            allowedBy: { policy: 'shop/callers', rule: 0 },
          },
        ],
        outbound: [{ src: '[fd00::1]:1', actualDst: '[fd00::9]:80', protocol: 'TCP' }],
      },
    },
  },
}
const MESH = {
  workloads: [
    {
      namespace: 'shop',
      name: 'catalog-1',
      workloadName: 'catalog',
      workloadIps: ['10.0.0.1', 'fd00::1'],
      node: 'node-a',
      protocol: 'HBONE',
      status: 'Healthy',
      serviceAccount: 'catalog',
      trustDomain: 'cluster.local',
      authorizationPolicies: ['shop/callers', 'shop/late', 'shop/odd'],
      networkPolicies: ['shop/inner', 'shop/coming'],
    },
    { namespace: 'shop', name: 'frontend-1', workloadIps: ['10.0.0.2'] },
  ],
  services: [{ hostname: 'db.legacy', vips: ['net/fd00::9'] }],
  policies: [
    {
      namespace: 'shop',
      name: 'callers',
      scope: 'WorkloadSelector',
      action: 'Allow',
      rules: [[[{ principals: [{ Prefix: 'cluster.local/ns/edge/' }], destinationPorts: [80] }]]],
      places: [2],
    },
    {
      namespace: 'istio-system',
      name: 'all',
      scope: 'Global',
      action: 'Deny',
      audit: true,
      dryRun: true,
    },
    { namespace: 'other', name: 'theirs', scope: 'Namespace', action: 'Deny' },
  ],
  unreadablePolicies: [{ key: 'shop/odd', reason: 'too deep' }],
  networkPolicies: [
    {
      namespace: 'shop',
      name: 'inner',
      ingress: {
        rules: [
          {
            peers: [
              { kind: 'namespace', namespace: 'edge' },
              {
                kind: 'range',
                range: { address: '10.0.0.0', length: 8 },
                except: [{ address: '10.9.0.0', length: 16 }],
              },
            ],
            ports: [
              { kind: 'range', first: 8080, last: 8080 },
              { kind: 'range', first: 9000, last: 9009 },
              { kind: 'name', name: 'admin' },
            ],
            place: 1,
          },
          { isAnyPeer: true, isAnyPort: true, place: 3 },
        ],
      },
      egress: { rules: [] },
    },
    { namespace: 'shop', name: 'of-others', egress: { rules: [] } },
  ],
}

function snapshot(audit: readonly string[] = []): Snapshot {
  const facts = readLocalFacts(LOCAL)
  const mesh = readMeshFacts(MESH)
  if (!facts.ok || !mesh.ok) throw new Error('they are dumps')
  return {
    at: 1,
    windowSeconds: 15,
    problem: undefined,
    mesh: mesh.value,
    audit: audit.flatMap((line) => readAudit(line) ?? []),
    waypoints: [],
    agents: [
      {
        node: 'node-a',
        pod: 'agent',
        isReady: true,
        restarts: 0,
        answeredAt: 1,
        silent: undefined,
        facts: facts.value,
        totals: new Map(),
        rates: new Map(),
      },
    ],
  }
}

const DENIAL = {
  kind: 'connection.denied',
  time: 1_000,
  namespace: 'shop',
  who: 'pod legacy/batch',
  what: 'pod shop/catalog-1 at 10.0.0.1:80',
  why: 'no',
} as const

void t.test('a workload has its policies, those that are missing first, and no others', (t) => {
  const view = workloadView(snapshot(), { namespace: 'shop', name: 'catalog' })
  t.strictSame(
    view?.policies.map(({ object, action, problem }) => [object, action, problem]),
    [
      ['policy shop/late', 'closed', 'it has not arrived'],
      ['policy shop/odd', 'closed', 'it cannot be read: too deep'],
      ['NetworkPolicy shop/coming', 'closed', 'it has not arrived'],
      ['AuthorizationPolicy shop/callers', 'Allow', undefined],
      ['AuthorizationPolicy istio-system/all', 'Audit', undefined],
      ['NetworkPolicy shop/inner', 'Ingress, Egress', undefined],
    ],
  )
  t.strictSame(view?.policies[5]?.rules, [
    'in, rules[1]: from pods of edge | 10.0.0.0/8 except 10.9.0.0/16, port 8080 | 9000-9009 | admin',
    'in, rules[3]: from anywhere, every port',
    'out: nothing',
  ])
  t.strictSame(view?.policies[3]?.rules, ['rules[2]: identity cluster.local/ns/edge/*, to port 80'])
  t.match(view?.pods, [{ name: 'catalog-1', capture: 'cutOff', captureReason: 'no worker' }])
  t.match(view?.certificates, [{ serialNumber: '255', notAfter: Date.UTC(2026, 0, 2) }])
  t.equal(workloadView(snapshot(), { namespace: 'shop', name: 'nobody' }), undefined)
  t.end()
})

void t.test('connections are told by the names of their other ends', (t) => {
  const view = workloadView(snapshot(), { namespace: 'shop', name: 'catalog' })
  t.match(view?.connections, [
    { direction: 'inbound', peer: 'shop/frontend-1', allowedBy: 'shop/callers rules[0]' },
    { direction: 'outbound', peer: 'db.legacy', peerAddress: '[fd00::9]:80' },
  ])
  t.end()
})

void t.test('denials are those of its own pods', (t) => {
  const lines = [DENIAL, { ...DENIAL, what: 'pod shop/catalog-10 at 10.0.0.3:80' }].map(auditLine)
  const view = workloadView(snapshot(lines), { namespace: 'shop', name: 'catalog' })
  t.match(view?.denials, [{ what: /catalog-1 at/ }])
  t.equal(view?.denials.length, 1)
  t.end()
})

void t.test('certificates come with the soonest end first, and before all what has none', (t) => {
  t.match(nodesView(snapshot()).certificates, [{ state: /Unavailable/ }, { serialNumber: '255' }])
  t.end()
})

void t.test('what is read twice of an audit stands there once, the newest first', (t) => {
  const events = [1, 3, 2].flatMap((time) => readAudit(auditLine({ ...DENIAL, time })) ?? [])
  const merged = mergeAudit(events, events.slice(1), 2)
  t.strictSame(
    merged.map(({ time }) => Date.parse(time)),
    [3, 2],
  )
  t.end()
})

void t.test('rules read as sentences', (t) => {
  const rule = (match: object, places: unknown = [0]) => policyRules([[[match]]], places)
  t.strictSame(rule({ notPrincipals: [{ Presence: {} }], destinationPorts: [80] }, [null]), [
    'callers without an identity, to port 80',
  ])
  t.strictSame(rule({ notSourceIps: ['10.0.0.0/8'] }), ['rules[0]: not from 10.0.0.0/8'])
  t.strictSame(policyRules([[]], [0]), ['rules[0]: every connection'])
  t.strictSame(
    policyRules(
      [
        [
          [
            { namespaces: [{ Exact: 'a' }] },
            { serviceAccounts: [{ namespace: 'b', serviceAccount: 'c' }] },
          ],
        ],
      ],
      [1],
    ),
    ['rules[1]: namespace a or service account b/c'],
  )
  t.end()
})

void t.test('no answer, whatever it is, breaks the reading', (t) => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 5 }), fc.jsonValue(), (odd, other) => {
      const local = readLocalFacts({
        ...LOCAL,
        capture: [odd],
        certificates: [other],
        workloadState: odd,
      })
      const mesh = readMeshFacts({ workloads: [odd], services: [other], policies: [odd] })
      t.ok(local.ok && mesh.ok)
      readLocalFacts(odd)
      readMeshFacts(odd)
      readAudit(JSON.stringify(odd))
      policyRules(odd, other)
    }),
  )
  t.match(readLocalFacts({}), { ok: false, error: /no list "certificates"/ })
  t.match(readMeshFacts([]), { ok: false, error: /no list "workloads"/ })
  t.end()
})
