// SPDX-License-Identifier: Apache-2.0
// One record of a connection, and what is told of it: the access line and the metrics, by Istio's names.

import t from 'tap'
import { accessFields, accessLevel } from '../../mesh/telemetry/access-line.ts'
import {
  type ConnectionRecord,
  flagOf,
  partyOf,
  UNKNOWN_PARTY,
} from '../../mesh/telemetry/connection-record.ts'
import { seriesKey, TRAFFIC_LABELS, trafficLabels } from '../../mesh/telemetry/traffic.ts'
import type { IpAddress, SpiffeId } from '../../mesh/model/types.ts'
import { testPod, testService, workloadOf } from '../proxy/loopback-world.ts'

const at = (address: string, port: number) => ({ address: address as IpAddress, port })
const FRONTEND = 'spiffe://cluster.local/ns/shop/sa/frontend' as SpiffeId
const CATALOG = 'spiffe://cluster.local/ns/shop/sa/catalog' as SpiffeId

/** frontend on one node has called catalog on another. */
const record: ConnectionRecord = {
  direction: 'outbound',
  startedAt: 1_780_000_000_000,
  source: partyOf(workloadOf(testPod('frontend'), { workloadName: 'frontend-deploy' }), FRONTEND),
  sourceAddress: at('10.244.1.2', 40_000),
  destination: partyOf(workloadOf(testPod('catalog')), CATALOG),
  destinationAddress: at('fd98::3', 15008),
  hboneTarget: at('fd98::3', 8080),
  service: testService('catalog', '10.96.0.20' as IpAddress),
  security: 'mutual_tls',
  bytesToUpstream: 5,
  bytesToDownstream: 70,
  durationMs: 12.4,
  end: 'ok',
  message: undefined,
  policy: undefined,
  rule: undefined,
  madeOf: undefined,
  reports: undefined,
}

void t.test('the access line has the fields of ztunnel', async (t) => {
  t.same(accessFields(record), {
    'src.addr': '10.244.1.2:40000',
    'src.workload': 'frontend',
    'src.namespace': 'shop',
    'src.identity': FRONTEND,
    'src.cluster': 'Kubernetes',
    'dst.addr': '[fd98::3]:15008',
    'dst.hbone_addr': '[fd98::3]:8080',
    'dst.service': 'catalog.shop.svc.cluster.local',
    'dst.workload': 'catalog',
    'dst.namespace': 'shop',
    'dst.identity': CATALOG,
    'dst.cluster': 'Kubernetes',
    direction: 'outbound',
    bytes_sent: 5,
    bytes_recv: 70,
    duration: '12ms',
    error: undefined,
  })
})

void t.test(
  'what a policy has decided, and what those on trial would have, is told beside it',
  (t) => {
    const refused = accessFields({
      ...record,
      end: 'policyDenied',
      message: 'explicitly denied by: shop/no-frontend',
      policy: 'shop/no-frontend',
      rule: 2,
      madeOf: 'AuthorizationPolicy shop/no-frontend',
      reports: { dryRun: 'would be allowed by shop/trial, rule 0', audit: 'shop/watch' },
    })
    t.match(refused, {
      error: 'connection closed due to policy rejection: explicitly denied by: shop/no-frontend',
      policy: 'shop/no-frontend',
      'policy.rule': 2,
      'policy.made_of': 'AuthorizationPolicy shop/no-frontend',
      'policy.dry_run': 'would be allowed by shop/trial, rule 0',
      'policy.audit': 'shop/watch',
    })
    t.end()
  },
)

void t.test('bytes are told from the point of view of the pod whose line it is', async (t) => {
  t.match(accessFields({ ...record, direction: 'inbound' }), { bytes_sent: 70, bytes_recv: 5 })
})

void t.test(
  'how it ended is told once, and loudly only where the mesh has a part in it',
  async (t) => {
    const line = (end: ConnectionRecord['end'], message?: string) =>
      accessFields({ ...record, end, message })['error']
    t.equal(line('serverReset'), 'connection reset by the server')
    t.equal(line('selfCall', 'port 15008'), 'attempted recursive call to ourselves: port 15008')
    t.equal(line('tooManyConnections', 'too many open connections'), 'too many open connections')
    t.equal(accessLevel('ok'), 'info')
    t.equal(accessLevel('clientReset'), 'info')
    t.equal(accessLevel('policyDenied'), 'error')
    t.equal(flagOf('policyDenied'), 'DENY')
    t.equal(flagOf('ok'), '-')
  },
)

void t.test('metrics name the owner of a pod, and what nobody knows is unknown', async (t) => {
  t.match(trafficLabels(record, '-', 'node_local'), {
    reporter: 'source',
    source_workload: 'frontend-deploy',
    source_principal: FRONTEND,
    source_region: 'unknown',
    destination_service: 'catalog.shop.svc.cluster.local',
    destination_service_name: 'catalog',
    connection_security_policy: 'mutual_tls',
  })
  const inbound = trafficLabels(
    { ...record, direction: 'inbound', source: UNKNOWN_PARTY, service: undefined },
    'DENY',
    'node_local',
  )
  t.match(inbound, { reporter: 'destination', response_flags: 'DENY' })
  for (const name of TRAFFIC_LABELS)
    if (name.startsWith('source_') || name.startsWith('destination_service'))
      t.equal(inbound[name], 'unknown', name)
})

void t.test('only what the kernel vouches for takes the word that was chosen for it', async (t) => {
  const word = (security: ConnectionRecord['security']) =>
    trafficLabels({ ...record, security }, '-', 'mesh_local').connection_security_policy
  t.same(
    [word('mutual_tls'), word('node_local'), word('unknown')],
    ['mutual_tls', 'mesh_local', 'unknown'],
  )
})

void t.test('series are told apart by all that their labels tell apart', async (t) => {
  const others: readonly Partial<ConnectionRecord>[] = [
    { direction: 'inbound' },
    { security: 'node_local' },
    { service: undefined },
    { source: { ...record.source, identity: undefined } },
    { destination: partyOf(workloadOf(testPod('other')), CATALOG) },
    // Before discovery knew it, it was counted by its name.
    { source: { ...record.source, labels: undefined } },
  ]
  const keys = others.map((each) => seriesKey({ ...record, ...each }, '-'))
  keys.push(seriesKey(record, '-'), seriesKey(record, 'DENY'))
  t.equal(new Set(keys).size, keys.length)
  t.equal(
    seriesKey({ ...record, sourceAddress: undefined, startedAt: 0 }, '-'),
    seriesKey(record, '-'),
  )
})
