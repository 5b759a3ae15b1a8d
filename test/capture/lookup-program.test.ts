// SPDX-License-Identifier: Apache-2.0
// The sk_lookup program by itself, run by the kernel on made-up connections (BPF_PROG_TEST_RUN). Only refusals and
// passes show here: a listener is chosen in inbound.test.ts, where there is one.

import { fileURLToPath } from 'node:url'
import t from 'tap'
import { toMapAddress } from '../../agent/capture/addresses.ts'
import { readCounters, type CaptureReason } from '../../agent/capture/counters.ts'
import {
  encodePod,
  encodeU64,
  LAYOUT,
  OWN_COOKIE,
  SEES_DEVICE,
} from '../../agent/capture/layout.ts'
import { BpfObject } from '../../native/bpf-object.ts'
import { closeFd } from '../../native/libc.ts'
import { fillProgramText, loadProgram, readProgramText } from '../../native/program-text.ts'
import { missing } from '../helpers.ts'
import { testRun } from './support/test-run.ts'

const OBJECT = fileURLToPath(new URL('../../bpf/build/capture.bpf.o', import.meta.url))
const SK_DROP = 0
const SK_PASS = 1
const TCP = 6
const UDP = 17
const PROG_TYPE_SK_LOOKUP = 30
const ATTACH_SK_LOOKUP = 36

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
  const counters = object.map('counters')
  const text = readProgramText(OBJECT, 'sk_lookup')
  /** The copy of a namespace. */
  const copyFor = (netnsCookie: bigint): number => {
    const code = fillProgramText(text, (name) => object.map(name).fd, [
      { placeholder: OWN_COOKIE, constant: netnsCookie },
      // What is made up here comes by no device.
      { placeholder: SEES_DEVICE, constant: 0n },
    ])
    const fd = loadProgram('ambit_sk_lookup', PROG_TYPE_SK_LOOKUP, ATTACH_SK_LOOKUP, code)
    t.teardown(() => closeFd(fd))
    return fd
  }
  const address = '10.0.0.1'
  const pod = { confined: [], primary4: undefined, primary6: undefined, addresses: [] }
  object.map('pods').update(encodeU64(7n), encodePod({ ...pod, failOpen: false }))
  object.map('pods').update(encodeU64(8n), encodePod({ ...pod, failOpen: true }))
  const [closed, open, stranger] = [copyFor(7n), copyFor(8n), copyFor(9n)]

  const trust = (netnsCookie: bigint, remote: string): void => {
    const { size, members } = LAYOUT.ambit_trusted_tuple
    const tuple = Buffer.alloc(size)
    tuple.writeBigUInt64LE(netnsCookie, members.netns_cookie)
    tuple.set(toMapAddress(remote), members.remote)
    tuple.set(toMapAddress(address), members.local)
    tuple.writeUInt16BE(50_000, members.remote_port)
    tuple.writeUInt16BE(8080, members.local_port)
    object.map('trusted').update(tuple, encodeU64(1n))
  }
  trust(7n, '10.9.9.9')
  trust(0n, '10.9.9.1')
  const fromTrusted = { remote: '10.9.9.9', remotePort: 50_000, local: address, localPort: 8080 }
  const fromKubelet = { ...fromTrusted, remote: '10.9.9.1' }

  type Case = readonly [string, number, Packet, number, CaptureReason | undefined]
  const from = '10.9.9.9'
  const cases: readonly Case[] = [
    ['UDP passes', closed, { protocol: UDP, remote: from, local: address }, SK_PASS, undefined],
    ['127/8 passes', closed, { remote: '127.0.0.1', local: '127.64.1.2' }, SK_PASS, 'inPassLocal'],
    ['::1 passes', closed, { remote: '::1', local: '::1' }, SK_PASS, 'inPassLocal'],
    ['own address passes', closed, { remote: address, local: address }, SK_PASS, 'inPassLocal'],
    ['own IPv6 passes', closed, { remote: 'fd00::1', local: 'fd00::1' }, SK_PASS, 'inPassLocal'],
    ['a trusted tuple passes', closed, fromTrusted, SK_PASS, 'inPassTrusted'],
    [
      'the same with another source port does not',
      closed,
      { ...fromTrusted, remotePort: 50_001 },
      SK_DROP,
      'inDropNoAgent',
    ],
    [
      'nor in another namespace, which may have the same address',
      stranger,
      fromTrusted,
      SK_DROP,
      'inDropNoAgent',
    ],
    ["a kubelet's passes in the one", closed, fromKubelet, SK_PASS, 'inPassTrusted'],
    ['and in the other', stranger, fromKubelet, SK_PASS, 'inPassTrusted'],
    [
      'no agent, closed: refused',
      closed,
      { remote: from, local: address },
      SK_DROP,
      'inDropNoAgent',
    ],
    ['IPv6 likewise', closed, { remote: 'fd09::9', local: 'fd00::1' }, SK_DROP, 'inDropNoAgent'],
    [
      'HBONE likewise',
      closed,
      { remote: from, local: address, localPort: 15_008 },
      SK_DROP,
      'inDropNoAgent',
    ],
    ['no agent, open: passes', open, { remote: from, local: address }, SK_PASS, 'inPassFailOpen'],
    [
      'no agent and nothing known of the namespace: refused',
      stranger,
      { remote: from, local: address },
      SK_DROP,
      'inDropNoAgent',
    ],
  ]
  for (const [name, program, packet, verdict, reason] of cases) {
    const before = readCounters(counters)
    t.equal(testRun(program, context(packet)).returnValue, verdict, name)
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
