// SPDX-License-Identifier: Apache-2.0
// What goes on record of connections: denials with the object and rule that made them, by the pod that was called; bounded in the
// worker and in the agent, with a count; and one event of the pod, however many calls.

import { connect } from 'node:net'
import t from 'tap'
import { certificateRefusals } from '../../agent/audit/certificate-refusals.ts'
import { DenialEvents } from '../../agent/audit/denial-events.ts'
import { recordConnections } from '../../agent/audit/node-audit.ts'
import type { Refusal } from '../../agent/proxy/admission.ts'
import { PodAudit, type PodAuditEvents } from '../../agent/proxy/pod-audit.ts'
import { connectionEvents } from '../../mesh/audit/connection-audit.ts'
import { AuditJournal } from '../../mesh/audit/journal.ts'
import { EVENTS, type KubeApi, NAMESPACES } from '../../mesh/kube/index.ts'
import type { IpAddress, SpiffeId } from '../../mesh/model/types.ts'
import { type ConnectionRecord, partyOf } from '../../mesh/telemetry/connection-record.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'
import { startAgent, testPod, workloadOf } from '../proxy/loopback-world.ts'
import { ScriptedKube } from '../support/scripted-kube.ts'
import { until } from '../support/until.ts'

const log = createLogger('test', 'silent')
const INTRUDER = 'spiffe://cluster.local/ns/shop/sa/intruder' as SpiffeId
const at = (address: string, port: number) => ({ address: address as IpAddress, port })
const catalog = testPod('catalog')

/** The called pod's record of a call that one rule of a policy refused. */
const denied: ConnectionRecord = {
  direction: 'inbound',
  startedAt: 1_780_000_000_000,
  source: partyOf(workloadOf(testPod('intruder')), INTRUDER),
  sourceAddress: at('10.244.1.2', 40_000),
  destination: partyOf(workloadOf(catalog)),
  destinationAddress: at('10.244.2.3', 15_008),
  hboneTarget: at('10.244.2.3', 8080),
  service: undefined,
  security: 'mutual_tls',
  bytesToUpstream: 0,
  bytesToDownstream: 0,
  durationMs: 1,
  end: 'policyDenied',
  message: 'explicitly denied by: shop/no-intruders',
  policy: 'shop/no-intruders',
  rule: 1,
  madeOf: '',
  reports: undefined,
}

void t.test(
  'who comes with a revoked certificate is denied, who stands with one is closed',
  (t) => {
    const kindOf = (end: ConnectionRecord['end']) =>
      connectionEvents({ ...denied, end }).map(({ kind, why }) => [kind, why.split(':')[0]])
    t.same(kindOf('handshakeRevoked'), [['connection.denied', 'refused in the handshake']])
    t.same(kindOf('certificateRevoked'), [
      ['connection.closed', "the peer's certificate is revoked (CRL)"],
    ])
    t.end()
  },
)

void t.test('a denial says who, to what, by which object and rule', (t) => {
  t.match(connectionEvents(denied), [
    {
      kind: 'connection.denied',
      time: 1_780_000_000_001,
      namespace: 'shop',
      who: INTRUDER,
      what: 'pod shop/catalog at 10.244.2.3:8080',
      object: 'AuthorizationPolicy shop/no-intruders',
      rule: 1,
      why: 'connection closed due to policy rejection: explicitly denied by: shop/no-intruders',
      details: { 'src.addr': '10.244.1.2:40000' },
    },
  ])
  const [strict] = connectionEvents({
    ...denied,
    source: partyOf(workloadOf(testPod('legacy'))),
    madeOf: 'PeerAuthentication shop/strict',
  })
  t.match(strict, { object: 'PeerAuthentication shop/strict', who: 'pod shop/legacy' })
  t.end()
})

void t.test('what is not decided by policy is not in the audit; what is only reported is', (t) => {
  for (const end of ['ok', 'clientReset', 'connectFailed', 'tooManyConnections'] as const)
    t.same(connectionEvents({ ...denied, end }), [], end)
  const callers = { ...denied, direction: 'outbound' } as const
  t.same(connectionEvents({ ...callers, policy: undefined }), [], 'the caller’s end of it')
  const madeOf = 'NetworkPolicy legacy/no-egress'
  t.match(
    connectionEvents({ ...callers, policy: 'legacy/no-egress', rule: undefined, madeOf }),
    [{ kind: 'connection.denied', object: madeOf }],
    'a policy of the caller that keeps it in',
  )
  for (const end of ['policyChanged', 'certificateExpired', 'peerDistrusted'] as const)
    t.match(connectionEvents({ ...denied, end }), [{ kind: 'connection.closed' }], end)
  const reports = { dryRun: 'would be denied by: shop/trial', audit: 'shop/watch' }
  t.match(connectionEvents({ ...denied, end: 'ok', policy: undefined, rule: undefined, reports }), [
    { kind: 'connection.dryRun', why: 'would be denied by: shop/trial', object: undefined },
    { kind: 'connection.audited', why: 'shop/watch' },
  ])
  t.end()
})

void t.test('a hundred thousand denials are some lines and a count', (t) => {
  const posted: PodAuditEvents[] = []
  const audit = new PodAudit((events) => posted.push(events))
  for (let count = 0; count < 100_000; count += 1) audit.record(denied)
  audit.flush()
  audit.flush()
  const lines = posted.reduce((sum, { events }) => sum + events.length, 0)
  const leftOut = posted.reduce((sum, each) => sum + each.leftOut, 0)
  t.ok(lines >= 200 && lines < 1_000, `${lines} lines`)
  t.equal(lines + leftOut, 100_000)

  const written: Record<string, unknown>[] = []
  const journal = new AuditJournal({
    write: (line) => written.push(JSON.parse(line) as Record<string, unknown>),
  })
  for (const each of posted) recordConnections(journal, undefined, catalog, each)
  journal.close()
  const told = written.reduce((sum, line) => sum + Number(line.leftOut ?? 0), 0)
  const own = written.filter(({ audit }) => audit === 'connection.denied').length
  t.equal(own + told, 100_000, 'all are accounted for on the way')
  t.end()
})

void t.test('refused by a real data plane, the call is told to the main thread', async (t) => {
  const refusal: Refusal = {
    kind: 'refuse',
    reason: 'policyDenied',
    message: 'explicitly denied by: shop/no-intruders',
    by: { policy: 'shop/no-intruders', rule: 1, madeOf: '' },
  }
  const agent = await startAgent(t, { judge: () => refusal })
  const served = await agent.servePod(testPod('catalog'))
  const socket = connect({ host: served.plaintext.address, port: served.plaintext.port })
  socket.on('error', () => undefined)
  const told = () => agent.messages.find(({ kind }) => kind === 'audit')
  await until(() => told() !== undefined, 'word of the audit')
  t.match(told(), {
    kind: 'audit',
    pod: { namespace: 'shop', name: 'catalog', uid: served.pod.uid },
    events: [{ kind: 'connection.denied', rule: 1, namespace: 'shop' }],
  })
})

void t.test('the pod has one event for each rule, and its count goes up', async (t) => {
  const kube = new ScriptedKube()
  kube.put(NAMESPACES, { metadata: { name: 'shop' } })
  const closing = new AbortController()
  t.teardown(() => closing.abort())
  const calls: string[] = []
  const api: KubeApi = {
    ...kube.api,
    create: (...call) => {
      calls.push('create')
      return kube.api.create(...call)
    },
    // A merge patch of fields at the top, as far as a server of this process goes.
    patch: async (resource, name, patch) => {
      calls.push('patch')
      const found = await kube.api.get(resource, name)
      return found.ok ? kube.api.update(resource, Object.assign({ ...found.value }, patch)) : found
    },
  }
  const options = { api, nodeName: 'node-a', log, signal: closing.signal, updateMs: 20 }
  const denials = new DenialEvents(options)
  const [event] = connectionEvents(denied)
  if (event === undefined) throw new Error('no event')
  const told = async () => {
    const list = await api.list(EVENTS, { namespace: 'shop' })
    if (!list.ok) throw new Error(list.error.message)
    // Their names are of the server's making.
    return list.value.items.toSorted((left, right) => (right.count ?? 0) - (left.count ?? 0))
  }
  for (let count = 0; count < 1_000; count += 1) denials.note(catalog, event, 1)
  await until(async () => (await told())[0]?.count === 1_000, 'the count to be told')
  denials.note(catalog, { ...event, rule: 2 }, 7)
  await until(async () => (await told()).length === 2, 'an event of the other rule')
  t.match(await told(), [
    {
      count: 1_000,
      reason: 'CallsDenied',
      type: 'Warning',
      involvedObject: { kind: 'Pod', namespace: 'shop', name: 'catalog', uid: catalog.uid },
      message:
        /intruder to pod shop\/catalog at 10.244.2.3:8080: .*AuthorizationPolicy shop\/no-intruders/,
    },
    { count: 7 },
  ])
  t.ok(calls.length < 10, `${calls.length} writes for 1,007 denials`)

  const identity = 'spiffe://cluster.local/ns/shop/sa/catalog' as SpiffeId
  const neighbour = {
    uid: 'n',
    namespace: 'shop',
    name: 'frontend',
    identity: 'spiffe://cluster.local/ns/shop/sa/frontend' as SpiffeId,
  }
  const tell = certificateRefusals({
    pods: () => [{ ...catalog, identity }, neighbour],
    events: denials,
  })
  for (let count = 0; count < 3; count += 1)
    tell(identity, { kind: 'denied', message: 'the pod is not of this node' })
  const refusals = async () =>
    (await told()).filter(({ reason }) => reason === 'CertificateRefused')
  await until(async () => (await refusals())[0]?.count === 3, 'the refusals to be told')
  t.match(
    await refusals(),
    [
      {
        involvedObject: { name: 'catalog', uid: catalog.uid },
        message: `pod shop/catalog gets no certificate as ${identity}: the pod is not of this node`,
      },
    ],
    'one event, of the pod that it is about',
  )
})
