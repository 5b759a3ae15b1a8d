// SPDX-License-Identifier: Apache-2.0
// HttpRoutes on the wire, and as a waypoint looks them up.

import { create, toBinary } from '@bufbuild/protobuf'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { DurationSchema } from '@bufbuild/protobuf/wkt'
import fc from 'fast-check'
import t from 'tap'
import { spiffeId } from '../../mesh/identity/spiffe.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import { formatResourceProblem } from '../../mesh/xds/resource-type.ts'
import { HTTP_ROUTES } from '../../mesh/xds/types/http-routes.ts'
import { decodeMeshState, encodeMeshState } from '../../mesh/xds/wire-state.ts'
import { anyHttpRoutes } from './http-routes-samples.ts'

const KEY = 'shop/catalog.shop.svc.cluster.local'

/** A message of these fields, each a message itself. */
function message(...fields: readonly (readonly [number, Uint8Array])[]): Uint8Array {
  const writer = new BinaryWriter()
  for (const [number, bytes] of fields) writer.tag(number, WireType.LengthDelimited).bytes(bytes)
  return writer.finish()
}

const service = [1, Buffer.from(KEY)] as const
const reading = (...fields: readonly (readonly [number, Uint8Array])[]): string => {
  const read = HTTP_ROUTES.decode(KEY, message(service, ...fields))
  return read.ok ? JSON.stringify(read.value.rules) : formatResourceProblem(read.error)
}

void t.test('what is written of routes is read as the same, in every field', (t) => {
  fc.assert(
    fc.property(anyHttpRoutes, (each) => {
      t.strictSame(HTTP_ROUTES.decode(each.key, HTTP_ROUTES.encode(each)), {
        ok: true,
        value: each,
      })
    }),
    { numRuns: 300 },
  )
  t.end()
})

void t.test('whatever bytes come as routes, they are read or refused', (t) => {
  let read = 0
  fc.assert(
    fc.property(anyHttpRoutes, fc.nat(), fc.nat(255), (each, at, byte) => {
      const bytes = Buffer.from(HTTP_ROUTES.encode(each))
      bytes[at % bytes.length] = byte
      if (HTTP_ROUTES.decode(each.key, bytes).ok) read += 1
    }),
    { numRuns: 500 },
  )
  t.ok(read > 10, `${read} were read`)
  t.end()
})

void t.test('times are durations as protobuf writes them', (t) => {
  const duration = toBinary(DurationSchema, create(DurationSchema, { seconds: 90n, nanos: 5e8 }))
  t.match(reading([3, message([5, message([1, duration])])]), '"requestMs":90500,')
  t.end()
})

void t.test('a filter that is not known takes its rule away, not itself out of it', (t) => {
  const problem = (rest: string) => `Cannot use resource ${KEY}: rules[0].filters[0]${rest}`
  t.equal(
    reading([3, message([3, message([99, Buffer.alloc(0)])])]),
    problem(': has a field 99 that this version does not know'),
  )
  t.equal(
    reading([3, message([3, message([1099, Buffer.alloc(0)])])]),
    problem(': says no filter that is known'),
  )
  t.equal(
    reading([3, message([3, message([4, Buffer.alloc(0)], [6, Buffer.alloc(0)])])]),
    problem(': says several filters'),
  )
  t.equal(
    reading([3, message([3, message([5, message([1, Buffer.alloc(0)])])])]),
    problem('.mirror.backend: says no backend'),
  )
  t.end()
})

void t.test('a match without a path is no match of every path', (t) => {
  t.equal(
    reading([3, message([2, Buffer.alloc(0)])]),
    `Cannot use resource ${KEY}: rules[0].matches[0].path: is empty`,
  )
  t.end()
})

void t.test('routes of a port count there before those of the whole Service', (t) => {
  const mesh = new MeshState()
  const place = { key: KEY, service: KEY, port: undefined, clients: undefined }
  const whole = { ...place, rules: [], connections: [] }
  const ofPort = { ...whole, key: `${KEY}:8080`, port: 8080 }
  mesh.apply([
    { kind: 'httpRoutes', routes: whole },
    { kind: 'httpRoutes', routes: ofPort },
  ])
  t.equal(mesh.httpRoutes.find(KEY, 8080, undefined), ofPort)
  t.equal(mesh.httpRoutes.find(KEY, 9090, undefined), whole)
  t.equal(mesh.httpRoutes.find('shop/other', 8080, undefined), undefined)

  mesh.apply([{ kind: 'httpRoutesRemoved', key: ofPort.key }])
  t.equal(mesh.httpRoutes.find(KEY, 8080, undefined), whole)
  t.end()
})

void t.test('routes for the clients of a namespace count for those before all others', (t) => {
  const mesh = new MeshState()
  const all = {
    key: `${KEY}:80`,
    service: KEY,
    port: 80,
    clients: undefined,
    rules: [],
    connections: [],
  }
  const ofFront = { ...all, key: `${KEY}@front`, port: undefined, clients: 'front' }
  mesh.apply([
    { kind: 'httpRoutes', routes: all },
    { kind: 'httpRoutes', routes: ofFront },
  ])
  const find = (port: number, namespace?: string) => {
    const id = { trustDomain: 'cluster.local', serviceAccount: 'a' }
    const client = namespace === undefined ? undefined : spiffeId({ ...id, namespace })
    return mesh.httpRoutes.find(KEY, port, client)
  }
  t.equal(find(80, 'front'), ofFront, 'though the others are of the port')
  t.equal(find(80, 'back'), all)
  t.equal(find(80), all)
  t.equal(find(81, 'front'), ofFront)
  t.equal(find(81, 'back'), undefined)
  mesh.apply([{ kind: 'httpRoutesRemoved', key: ofFront.key }])
  t.equal(find(80, 'front'), all)
  t.equal(find(81, 'front'), undefined)
  t.end()
})

void t.test('routes are part of a state that is copied or kept', (t) => {
  fc.assert(
    fc.property(anyHttpRoutes, (routes) => {
      const mesh = new MeshState()
      mesh.apply([{ kind: 'httpRoutes', routes }])
      t.strictSame(mesh.snapshot(), [{ kind: 'httpRoutes', routes }])
      t.strictSame(decodeMeshState(encodeMeshState(mesh)), {
        ok: true,
        value: [{ kind: 'httpRoutes', routes }],
      })
    }),
    { numRuns: 50 },
  )
  t.end()
})
