// SPDX-License-Identifier: Apache-2.0
// TypeScript's picture of the structs in bpf/ambit.h is what the compiler made of them, and its readers and writers
// agree with it.

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import t from 'tap'
import { fromMapAddress, toMapAddress } from '../../agent/capture/addresses.ts'
import { CAPTURE_REASONS, enumConstant } from '../../agent/capture/counters.ts'
import {
  decodeDestination,
  encodeAsked,
  encodeListenerKey,
  LAYOUT,
  layoutDifferences,
  LISTENER_KIND,
  POD_FLAG,
  SOCKET_FLAG,
} from '../../agent/capture/layout.ts'
import { PIN_VERSION } from '../../agent/capture/pins.ts'
import { MAP_NAMES } from '../../agent/capture/programs.ts'
import { MESH_PORTS } from '../../mesh/model/ports.ts'
import { BpfObject } from '../../native/bpf-object.ts'
import type { BtfTypes } from '../../native/btf.ts'

const OBJECT = fileURLToPath(new URL('../../bpf/build/capture.bpf.o', import.meta.url))

function objectTypes(): BtfTypes {
  const object = BpfObject.open(OBJECT)
  const { types } = object
  object.close()
  return types
}

void t.test("the layout is the compiler's", async (t) => {
  const types = objectTypes()
  t.strictSame(layoutDifferences(types), [])
  t.equal(types.structs.get('ambit_pod')?.size, LAYOUT.ambit_pod.size)
  t.strictSame(
    [...(types.sections.get('.rodata')?.keys() ?? [])].includes('node_netns_cookie'),
    true,
  )
})

/** Of the maps and of what is in them, by the version that they are pinned under. */
const PINNED: Readonly<Record<string, string>> = {
  v6: '90c5bac01c490a5932a8119011537d9d65c4d0db4ab81ec103a64c006c4912ac',
}

void t.test('what is pinned under one version is always the same', async (t) => {
  const object = BpfObject.open(OBJECT)
  const maps = [...object.mapShapes(MAP_NAMES)].toSorted(([one], [other]) => (one < other ? -1 : 1))
  object.close()
  t.equal(maps.length, MAP_NAMES.length)
  const pinned = { maps, LAYOUT, POD_FLAG, SOCKET_FLAG, LISTENER_KIND, CAPTURE_REASONS }
  t.equal(
    createHash('sha256').update(JSON.stringify(pinned)).digest('hex'),
    PINNED[PIN_VERSION],
    'what an agent before or after this one has pinned cannot be used: change PIN_VERSION, put its digest here, and say so in CHANGELOG.md',
  )
})

void t.test('layoutDifferences() names every struct, member and reason that differs', async (t) => {
  const types = objectTypes()
  const structs = new Map(types.structs)
  structs.set('ambit_socket', { size: 32, members: new Map([['address', 8]]) })
  structs.delete('ambit_tuple')
  const differences = layoutDifferences({ ...types, structs, enums: new Map() })
  t.match(differences.join('\n'), /ambit_socket has 32 bytes, expected 56/)
  t.match(differences.join('\n'), /ambit_socket\.address is at 8, expected 0/)
  t.match(differences.join('\n'), /struct ambit_tuple is missing/)
  t.match(differences.join('\n'), /AMBIT_OUT_CAPTURED4 is not number 0/)
})

void t.test("the kernel's side has the same mesh ports", async (t) => {
  const header = readFileSync(new URL('../../bpf/ambit.h', import.meta.url), 'utf8')
  const defined = [...header.matchAll(/#define AMBIT_PORT_(\w+)\s+(\d+)/g)].map(
    ([, name, port]) => [String(name).toLowerCase(), Number(port)] as const,
  )
  t.same(Object.fromEntries(defined), MESH_PORTS)
})

void t.test('counter names map to the enum constants one to one', async (t) => {
  t.equal(enumConstant('outDenyNoAgent'), 'AMBIT_OUT_DENY_NO_AGENT')
  t.equal(enumConstant('outCaptured4'), 'AMBIT_OUT_CAPTURED4')
  t.equal(new Set(CAPTURE_REASONS.map(enumConstant)).size, CAPTURE_REASONS.length)
})

void t.test('addresses survive the way into a map and back, in canonical text', async (t) => {
  const canonical = [
    ['10.0.0.1', '10.0.0.1'],
    ['::ffff:10.0.0.1', '10.0.0.1'],
    ['FD00:0:0::0001', 'fd00::1'],
    ['::', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
  ] as const
  for (const [text, expected] of canonical) t.equal(fromMapAddress(toMapAddress(text)), expected)
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
      const buffer = Buffer.from(bytes)
      return toMapAddress(fromMapAddress(buffer)).equals(buffer)
    }),
  )
  fc.assert(fc.property(fc.ipV4(), (text) => fromMapAddress(toMapAddress(text)) === text))
  t.throws(() => toMapAddress('10.0.0'), /not an IP address/)
})

void t.test('a listener slot is of a namespace, a family and a kind', async (t) => {
  t.strictSame(
    encodeListenerKey(0x1122n, 6, 'hbone'),
    Buffer.from('22110000000000000600010000000000', 'hex'),
  )
  const keys = ([4, 6] as const).flatMap((family) =>
    (['plaintext', 'hbone'] as const).map((kind) =>
      encodeListenerKey(1n, family, kind).toString('hex'),
    ),
  )
  t.equal(new Set(keys).size, 4)
})

void t.test('only an accepted connection has a destination', async (t) => {
  const value = Buffer.alloc(LAYOUT.ambit_socket.size)
  value.set(toMapAddress('10.0.0.9'), 0)
  value.writeUInt16BE(8080, 16)
  t.equal(decodeDestination(value), undefined)
  value.writeUInt16LE(SOCKET_FLAG.captured, 18)
  t.equal(decodeDestination(value), undefined)
  value.writeUInt16LE(SOCKET_FLAG.accepted, 18)
  const destination = { address: '10.0.0.9', port: 8080, hasOwnPort: false, cookie: 0n }
  t.strictSame(decodeDestination(value), { ...destination, asked: undefined })
  value.writeUInt16LE(SOCKET_FLAG.accepted | SOCKET_FLAG.ownPort, 18)
  value.writeBigUInt64LE(77n, 24)
  const asked = {
    keepAlive: true,
    keepIdleS: 2,
    keepIntervalS: 1,
    keepProbes: 3,
    userTimeoutMs: 5000,
    trafficClass: 0x28,
  }
  encodeAsked(value.subarray(32), asked)
  t.strictSame(decodeDestination(value), { ...destination, hasOwnPort: true, cookie: 77n, asked })
})
