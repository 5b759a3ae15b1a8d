// SPDX-License-Identifier: Apache-2.0
// A hundred thousand attempts against a policy that denies: they cost no memory that stays, few lines, and no place; another pod is served.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { pino } from 'pino'
import t from 'tap'
import { type Gate, type InboundCall, judge } from '../../agent/proxy/admission.ts'
import { Connection } from '../../agent/proxy/connection.ts'
import { ConnectionCounts, countTable } from '../../agent/proxy/connection-counts.ts'
import { enter } from '../../agent/proxy/entering.ts'
import type { LocalPod } from '../../agent/proxy/local-pod.ts'
import { OpenConnections } from '../../agent/proxy/open-connections.ts'
import { Places } from '../../agent/proxy/places.ts'
import { PolicyGate } from '../../agent/proxy/policy-gate.ts'
import { AccessLog } from '../../agent/proxy/access-log.ts'
import { TrafficCounters } from '../../agent/proxy/traffic-counters.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { partyOf } from '../../mesh/telemetry/connection-record.ts'
import { FLAG } from '../../mesh/http2/protocol.ts'
import { makeCertificate, makeRoot } from '../hbone/certs.ts'
import { headers, rawPeer } from '../hbone/raw-peer.ts'
import { until } from '../support/until.ts'
import { talk } from './conversation.ts'
import { startAgent, startApp, testPod, workloadOf } from './loopback-world.ts'
import { EVERYBODY, from, KNOWN, naming, policy, rule } from './policies.ts'

const ATTEMPTS = 100_000
/** Pods that are flooded at once by one caller, and its calls to each: as many as it may make in a burst, and not be sent away. */
const FLOODED_PODS = 3
const CONNECTIONS_TO_POD = 4
const CALLS_OF_CONNECTION = 350
/** Calls of another that are begun and served meanwhile, one after the other; it is three times as many, and three where such a flood has turns of its own. */
const LEAST_SERVED = 5
/** Of a pod's access lines: the burst, and what is let through in a second. */
const LINES = { burst: 5_000, perSecond: 500 }
const AUDITED = { burst: 200, perSecond: 10 }
const WARM_UP = 1_000
const CALLS_BETWEEN = 3
/** Of what is left after a collection: noise of the runtime. */
const MOST_BYTES_LEFT = 8 * 1024 * 1024

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

await t.test('a flood of refused calls leaves nothing behind', async (t) => {
  const mesh = new MeshState()
  const lines: number[] = []
  const told = { lines: 0, leftOut: 0 }
  const counters = new TrafficCounters(() => undefined, 'node_local')
  const log = pino({}, { write: (line: string) => void lines.push(line.length) })
  const accessLog = new AccessLog({ log })
  const open = new OpenConnections({
    accessLog,
    counters,
    postAudit: (_pod, { events, leftOut }) => {
      told.lines += events.length
      told.leftOut += leftOut
    },
  })
  const policies = new PolicyGate({ mesh, mode: 'refuse', onChange: () => undefined })
  const counts = new ConnectionCounts(countTable(1), 0)
  const gate: Gate = {
    places: new Places(counts, { descriptors: 1_000, perPod: 100, handshakes: 100 }),
    callerOf: (address) => address,
    judge: (call, pod) => judge(call, pod) ?? policies.judge(call, pod),
    policies,
    judgeOutbound: () => undefined,
  }
  const catalog = testPod('catalog', '10.244.2.3' as IpAddress)
  const other = testPod('other', '10.244.2.4' as IpAddress)
  const enemy = testPod('enemy', '10.244.1.2' as IpAddress)
  mesh.apply([
    KNOWN,
    naming(catalog, ['shop/only-frontend']),
    naming(other, []),
    policy('shop/only-frontend', { rules: [rule(from('frontend'))] }),
  ])

  const attempt = async (pod: LocalPod): Promise<boolean> => {
    const [address] = pod.addresses as [IpAddress]
    const peer = { address: '10.244.1.2' as IpAddress, port: 40_000 }
    const target = { address, port: 8080 }
    const folder = open.of(pod)
    const connection = new Connection(
      {
        direction: 'inbound',
        source: partyOf(undefined, enemy.identity),
        sourceAddress: peer,
        destination: partyOf(undefined),
        destinationAddress: target,
        hboneTarget: undefined,
        service: undefined,
        security: 'mutual_tls',
      },
      folder,
    )
    const call: InboundCall = {
      peer,
      peerIdentity: enemy.identity,
      destination: pod.uid,
      target,
      via: 'hbone',
    }
    const entry = await enter(connection, call, pod, folder, gate)
    if (entry.kind === 'refuse') connection.fail(entry.reason, entry.message, entry.by)
    return entry.kind === 'permit'
  }

  for (let made = 0; made < WARM_UP; made += 1) await attempt(catalog)
  collect()
  const before = process.memoryUsage().heapUsed
  const beganAt = performance.now()
  let entered = 0
  for (let made = 0; made < ATTEMPTS; made += 1) if (await attempt(catalog)) entered += 1
  collect()
  const left = process.memoryUsage().heapUsed - before
  t.equal(entered, 0)
  t.ok(left < MOST_BYTES_LEFT, `${left} bytes are left`)
  const seconds = Math.ceil((performance.now() - beganAt) / 1000) + 1
  t.ok(lines.length <= LINES.burst + LINES.perSecond * seconds, `${lines.length} lines`)
  open.of(catalog).audit.flush()
  t.equal(told.lines + told.leftOut, ATTEMPTS + WARM_UP, 'the audit has each, or counts it')
  t.ok(told.lines <= AUDITED.burst + AUDITED.perSecond * seconds, `${told.lines} in the audit`)
  t.equal(counts.of(catalog.seat), 0, 'no place is taken')
  t.equal(open.of(catalog).drain.size, 0)
  t.equal(await attempt(other), true, 'another pod is called as ever')
  counters.flush()
  policies.close()
  gate.places.close()
})

await t.test(
  'a policy that flaps under calls leaves nothing behind, and the last one counts',
  (t) => {
    const mesh = new MeshState()
    const policies = new PolicyGate({ mesh, mode: 'refuse', onChange: () => undefined })
    const catalog = testPod('catalog', '10.244.2.3' as IpAddress)
    mesh.apply([KNOWN, naming(catalog, ['shop/flap'])])
    policies.follow(catalog)
    const call: InboundCall = {
      peer: { address: '10.244.1.2' as IpAddress, port: 40_000 },
      peerIdentity: testPod('frontend').identity,
      destination: catalog.uid,
      target: { address: '10.244.2.3' as IpAddress, port: 8080 },
      via: 'hbone',
    }
    const flap = (turns: number): void => {
      for (let turn = 0; turn < turns; turn += 1) {
        const isOpen = turn % 2 === 0
        // With a name of its own each time: what is kept by name would grow.
        const names = [`nobody-${turn}`, ...(isOpen ? ['frontend'] : [])]
        mesh.apply([policy('shop/flap', { rules: [rule(from(...names))] })])
        for (let calls = 0; calls < CALLS_BETWEEN; calls += 1)
          if ((policies.judge(call, catalog) === undefined) !== isOpen)
            throw new Error(`turn ${turn}: the policy of before counts`)
      }
    }
    flap(WARM_UP)
    collect()
    const before = process.memoryUsage().heapUsed
    // A hundred times a second, for five minutes.
    flap(30_000)
    collect()
    const left = process.memoryUsage().heapUsed - before
    t.ok(left < MOST_BYTES_LEFT, `${left} bytes are left`)
    t.match(policies.judge(call, catalog), { reason: 'policyDenied' })
    mesh.apply([policy('shop/flap', { rules: [EVERYBODY] })])
    t.equal(policies.judge(call, catalog), undefined)
    policies.close()
    t.end()
  },
)

await t.test('others are served between the refusals of a flood, not after them', async (t) => {
  const root = await makeRoot()
  const agent = await startAgent(t, { root })
  const abroad = await startAgent(t, { root })
  const names = Array.from({ length: FLOODED_PODS }, (_, at) => `flooded-${at}`)
  const flooded = await Promise.all(names.map((name) => agent.servePod(testPod(name))))
  const other = await agent.servePod(testPod('other'))
  const remote = await abroad.servePod(testPod('remote'))
  const enemy = testPod('enemy', '127.0.0.1' as IpAddress)
  const [otherAddress] = other.pod.addresses as [IpAddress]
  const app = {
    address: otherAddress,
    port: await startApp(t, otherAddress, (socket) => void socket.pipe(socket)),
  }
  for (const each of [agent, abroad]) {
    for (const pod of [...flooded, other, remote].map((served) => served.pod).concat(enemy))
      each.send({ kind: 'mesh', changes: [{ kind: 'workload', workload: workloadOf(pod) }] })
    each.send({ kind: 'meshSynced' })
  }
  agent.send({
    kind: 'mesh',
    changes: [
      policy('shop/only-frontend', { rules: [rule(from('frontend'))] }),
      ...flooded.map(({ pod }) => naming(pod, ['shop/only-frontend'])),
    ],
  })
  t.equal(await talk(await remote.call(app), 'opens the pool'), 'opens the pool')

  const certificate = await makeCertificate(root, enemy.identity)
  const flood = await Promise.all(
    flooded.flatMap(({ pod }) =>
      Array.from({ length: CONNECTIONS_TO_POD }, async () => {
        const [host] = pod.addresses as [IpAddress]
        const peer = await rawPeer(t, 15008, certificate, true, '127.0.0.1', host)
        return { host, peer }
      }),
    ),
  )
  const refused = (): number =>
    agent.lines.filter((line) => line['src.identity'] === enemy.identity).length
  for (const { host, peer } of flood)
    peer.send(
      ...Array.from({ length: CALLS_OF_CONNECTION }, (_, at) =>
        headers(
          2 * at + 1,
          [
            [':method', 'CONNECT'],
            [':authority', `${host}:8080`],
          ],
          FLAG.endStream,
        ),
      ),
    )
  const total = flood.length * CALLS_OF_CONNECTION
  await until(() => refused() > 0, 'the first refusal')
  let served = 0
  while (refused() < total) {
    t.equal(await talk(await remote.call(app), 'well?'), 'well?')
    served += 1
  }
  t.equal(refused(), total)
  t.ok(served >= LEAST_SERVED, `${served} calls were served among ${total} refusals`)
})
