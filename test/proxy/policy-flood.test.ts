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
import { TrafficCounters } from '../../agent/proxy/traffic-counters.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { partyOf } from '../../mesh/telemetry/connection-record.ts'
import { testPod } from './loopback-world.ts'
import { from, KNOWN, naming, policy, rule } from './policies.ts'

const ATTEMPTS = 100_000
/** Of a pod's access lines: the burst, and what is let through in a second. */
const LINES = { burst: 5_000, perSecond: 500 }
/** Of what is left after a collection: noise of the runtime. */
const MOST_BYTES_LEFT = 8 * 1024 * 1024

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

await t.test('a flood of refused calls leaves nothing behind', async (t) => {
  const mesh = new MeshState()
  const lines: number[] = []
  const counters = new TrafficCounters(() => undefined, 'node_local')
  const accessLog = pino({}, { write: (line: string) => void lines.push(line.length) })
  const open = new OpenConnections({ accessLog, counters, postAudit: () => undefined })
  const policies = new PolicyGate({ mesh, mode: 'refuse', onChange: () => undefined })
  const counts = new ConnectionCounts(countTable(1), 0)
  const gate: Gate = {
    places: new Places(counts, { descriptors: 1_000, perPod: 100, handshakes: 100 }),
    callerOf: (address) => address,
    judge: (call, pod) => judge(call, pod) ?? policies.judge(call, pod),
    policies,
  }
  const catalog = testPod('catalog', '10.244.2.3' as IpAddress)
  const other = testPod('other', '10.244.2.4' as IpAddress)
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
        source: partyOf(undefined, testPod('enemy').identity),
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
      peerIdentity: testPod('enemy').identity,
      destination: pod.uid,
      target,
      via: 'hbone',
    }
    const entry = await enter(connection, call, pod, folder, gate)
    if (entry.kind === 'refuse') connection.fail(entry.reason, entry.message, entry.by)
    return entry.kind === 'permit'
  }

  for (let made = 0; made < 1_000; made += 1) await attempt(catalog)
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
  t.equal(counts.of(catalog.seat), 0, 'no place is taken')
  t.equal(open.of(catalog).drain.size, 0)
  t.equal(await attempt(other), true, 'another pod is called as ever')
  counters.flush()
  policies.close()
  gate.places.close()
})
