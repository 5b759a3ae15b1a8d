// SPDX-License-Identifier: Apache-2.0
// Who may enter a pod, and how connections are counted while they are there.

import t from 'tap'
import {
  type Admission,
  admit,
  admitOutbound,
  type Gate,
  type InboundCall,
  judge,
  type Permit,
} from '../../agent/proxy/admission.ts'
import {
  ConnectionCounts,
  countTable,
  Seats,
  strikeOut,
} from '../../agent/proxy/connection-counts.ts'
import { Places } from '../../agent/proxy/places.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { testPod } from './loopback-world.ts'

const pod = testPod('catalog', '10.244.2.3' as IpAddress)
const OPEN = { closedBy: undefined }

const gateOf = (perPod: number, table = countTable(1), worker = 0) => {
  const counts = new ConnectionCounts(table, worker)
  const places = new Places(counts, { descriptors: 1_000, perPod, handshakes: 100 })
  const policies = {
    lastSaid: () => undefined,
    changed: () => Promise.resolve(),
    reports: () => undefined,
  }
  const gate: Gate = {
    places,
    callerOf: (address) => address,
    judge,
    policies,
    judgeOutbound: () => undefined,
  }
  return { gate, counts }
}

const callBy = (via: InboundCall['via'], port = 8080): InboundCall => ({
  peer: { address: '10.244.1.2' as IpAddress, port: 40_000 },
  peerIdentity: undefined,
  destination: pod.uid,
  target: { address: '10.244.2.3' as IpAddress, port },
  via,
})

function permitOf(admission: Admission): Permit {
  if (admission.kind === 'refuse') throw new Error(admission.message)
  return admission.permit
}

void t.test("the mesh's own ports are entered by no way", async (t) => {
  const { gate, counts } = gateOf(10)
  for (const via of ['hbone', 'plaintext', 'sameNode', 'kernel'] as const) {
    for (const port of [15001, 15006, 15008])
      t.match(admit(callBy(via, port), pod, OPEN, gate), { kind: 'refuse', reason: 'selfCall' })
    t.match(admit(callBy(via), pod, OPEN, gate), { kind: 'permit', permit: { pod: pod.uid } })
  }
  t.equal(counts.of(pod.seat), 4, 'what was refused does not count')
})

void t.test('a pod has so many connections, whatever way they come, and its own', async (t) => {
  const { gate, counts } = gateOf(3)
  const permits = [
    permitOf(admit(callBy('hbone'), pod, OPEN, gate)),
    permitOf(admit(callBy('sameNode'), pod, OPEN, gate)),
    permitOf(admitOutbound(pod, OPEN, gate)),
  ]
  for (const admission of [
    admit(callBy('plaintext'), pod, OPEN, gate),
    admit(callBy('sameNode'), pod, OPEN, gate),
    admitOutbound(pod, OPEN, gate),
  ])
    t.match(admission, { kind: 'refuse', reason: 'tooManyConnections', by: undefined })
  t.equal(admit(callBy('hbone'), testPod('other'), OPEN, gate).kind, 'permit')
  permits[0]?.release()
  permits[0]?.release()
  t.equal(counts.of(pod.seat), 2, 'a permit gives its place back once')
  t.equal(admit(callBy('hbone'), pod, OPEN, gate).kind, 'permit')
  t.equal(admit(callBy('hbone'), pod, OPEN, gate).kind, 'refuse')
})

void t.test('a pod whose connections were cut takes part no more', async (t) => {
  const { gate, counts } = gateOf(3)
  const door = { closedBy: 'podRemoved' } as const
  t.match(admit(callBy('hbone'), pod, door, gate), { kind: 'refuse', reason: 'podRemoved' })
  t.match(admitOutbound(pod, door, gate), { kind: 'refuse', reason: 'podRemoved' })
  t.equal(counts.of(pod.seat), 0)
})

void t.test('workers count together, and what a dead one had counted is struck out', async (t) => {
  const table = countTable(2)
  const { gate: one, counts: ofOne } = gateOf(3, table, 0)
  const { gate: two, counts: ofTwo } = gateOf(3, table, 1)
  permitOf(admit(callBy('hbone'), pod, OPEN, one))
  permitOf(admit(callBy('sameNode'), pod, OPEN, two))
  const last = permitOf(admit(callBy('sameNode'), pod, OPEN, two))
  t.equal(admit(callBy('hbone'), pod, OPEN, one).kind, 'refuse')
  t.equal(admit(callBy('sameNode'), pod, OPEN, two).kind, 'refuse')
  strikeOut(table, 0)
  t.equal(ofOne.of(pod.seat), 2)
  last.release()
  t.equal(ofTwo.of(pod.seat), 1)
})

void t.test('a seat that was given back is the last to be given again', async (t) => {
  const seats = new Seats()
  const first = seats.take()
  const second = seats.take()
  t.not(first, second)
  seats.giveBack(first)
  t.not(seats.take(), first, 'connections of its last owner may still be ending')
})
