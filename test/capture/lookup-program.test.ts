// SPDX-License-Identifier: Apache-2.0
// The sk_lookup program by itself, run by the kernel on made-up connections (BPF_PROG_TEST_RUN). Only refusals and
// passes show here: a listener is chosen in inbound.test.ts, where there is one.

import { fileURLToPath } from 'node:url'
import t from 'tap'
import { toMapAddress } from '../../agent/capture/addresses.ts'
import { readCounters, type CaptureReason } from '../../agent/capture/counters.ts'
import { encodeAddressInfo, encodeU64, LAYOUT } from '../../agent/capture/layout.ts'
import { BpfObject } from '../../native/bpf-object.ts'
import { missing } from '../helpers.ts'
import { testRun } from './support/test-run.ts'

const OBJECT = fileURLToPath(new URL('../../bpf/build/capture.bpf.o', import.meta.url))
const SK_DROP = 0
const SK_PASS = 1
const TCP = 6
const UDP = 17

interface Packet {
  readonly protocol?: number
  readonly remote: string
  readonly remotePort?: number
  readonly local: string
  readonly localPort?: number
}

/** struct bpf_sk_lookup of linux/bpf.h. */
function context(packet: Packet): Buffer {
  const bytes = Buffer.alloc(72)
  const isV6 = packet.local.includes(':')
  bytes.writeUInt32LE(isV6 ? 10 : 2, 8)
  bytes.writeUInt32LE(packet.protocol ?? TCP, 12)
  const remote = toMapAddress(packet.remote)
  const local = toMapAddress(packet.local)
  if (isV6) {
    bytes.set(remote, 20)
    bytes.set(local, 44)
  } else {
    bytes.set(remote.subarray(12), 16)
    bytes.set(local.subarray(12), 40)
  }
  bytes.writeUInt16BE(packet.remotePort ?? 40_000, 36)
  bytes.writeUInt32LE(packet.localPort ?? 80, 60)
  return bytes
}

void t.test('sk_lookup', { skip: missing('root') }, async (t) => {
  const object = BpfObject.open(OBJECT)
  t.teardown(() => object.close())
  object.load()
  const program = object.programs().find(({ name }) => name === 'ambit_sk_lookup')
  t.ok(program)
  const counters = object.map('counters')
  const closedPod = '10.0.0.1'
  const openPod = '10.0.0.2'
  object.map('addresses').update(toMapAddress(closedPod), encodeAddressInfo(false, 7n))
  object.map('addresses').update(toMapAddress('fd00::1'), encodeAddressInfo(false, 7n))
  object.map('addresses').update(toMapAddress(openPod), encodeAddressInfo(true, 8n))

  const trustedTuple = Buffer.alloc(LAYOUT.ambit_trusted_tuple.size)
  trustedTuple.set(toMapAddress('10.9.9.9'), 0)
  trustedTuple.set(toMapAddress(closedPod), 16)
  trustedTuple.writeUInt16BE(50_000, 32)
  trustedTuple.writeUInt16BE(8080, 34)
  object.map('trusted').update(trustedTuple, encodeU64(1n))

  const cases: readonly (readonly [string, Packet, number, CaptureReason | undefined])[] = [
    ['UDP passes', { protocol: UDP, remote: '10.9.9.9', local: closedPod }, SK_PASS, undefined],
    ['127/8 passes', { remote: '127.0.0.1', local: '127.64.1.2' }, SK_PASS, 'inPassLocal'],
    ['::1 passes', { remote: '::1', local: '::1' }, SK_PASS, 'inPassLocal'],
    ['own address passes', { remote: closedPod, local: closedPod }, SK_PASS, 'inPassLocal'],
    ['own IPv6 passes', { remote: 'fd00::1', local: 'fd00::1' }, SK_PASS, 'inPassLocal'],
    [
      'a trusted tuple passes',
      { remote: '10.9.9.9', remotePort: 50_000, local: closedPod, localPort: 8080 },
      SK_PASS,
      'inPassTrusted',
    ],
    [
      'the same with another source port does not',
      { remote: '10.9.9.9', remotePort: 50_001, local: closedPod, localPort: 8080 },
      SK_DROP,
      'inDropNoAgent',
    ],
    [
      'no agent, closed: refused',
      { remote: '10.9.9.9', local: closedPod },
      SK_DROP,
      'inDropNoAgent',
    ],
    ['IPv6 likewise', { remote: 'fd09::9', local: 'fd00::1' }, SK_DROP, 'inDropNoAgent'],
    [
      'HBONE likewise',
      { remote: '10.9.9.9', local: closedPod, localPort: 15_008 },
      SK_DROP,
      'inDropNoAgent',
    ],
    ['no agent, open: passes', { remote: '10.9.9.9', local: openPod }, SK_PASS, 'inPassFailOpen'],
    [
      'an address nobody named: refused',
      { remote: '10.9.9.9', local: '10.0.0.77' },
      SK_DROP,
      'inDropUnknownAddress',
    ],
  ]
  for (const [name, packet, verdict, reason] of cases) {
    const before = readCounters(counters)
    t.equal(testRun(program?.fd ?? -1, context(packet)).returnValue, verdict, name)
    const after = readCounters(counters)
    const changed = Object.entries(after).filter(
      ([key, value]) => before[key as CaptureReason] !== value,
    )
    t.strictSame(
      changed.map(([key]) => key),
      reason === undefined ? [] : [reason],
      `${name}: counted as ${reason}`,
    )
  }
})
