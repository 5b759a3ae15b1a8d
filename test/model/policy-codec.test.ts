// SPDX-License-Identifier: Apache-2.0
// The wire form of policies, and what is refused of it. The witness is protobuf-es over Istio's schema, as for workloads and services.

import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import fc from 'fast-check'
import t from 'tap'
import { ipAddressToBytes, isIpv4Address } from '../../mesh/model/address.ts'
import {
  EMPTY_MATCH,
  POLICY,
  type Policy,
  type PolicyMatch,
  type StringMatch,
} from '../../mesh/model/policy.ts'
import { type Authorization, AuthorizationSchema } from '../../mesh/proto/gen/authorization_pb.js'
import { formatResourceProblem, type ResourceType } from '../../mesh/xds/resource-type.ts'
import { AUTHORIZATION } from '../../mesh/xds/types/authorization.ts'
import { BACKEND_TLS } from '../../mesh/xds/types/backend-tls.ts'
import { HTTP_ROUTES } from '../../mesh/xds/types/http-routes.ts'
import { NETWORK } from '../../mesh/xds/types/network-policy.ts'
import { WAYPOINT_POLICIES } from '../../mesh/xds/types/waypoint-policy.ts'
import { anyPolicies, samplePolicy } from '../policy/samples.ts'
import { ip } from './samples.ts'

const policy = anyPolicies
  .filter((policies) => policies.length > 0)
  .map(([first]) => first ?? samplePolicy('none', 'deny', []))

const textOf = (match: StringMatch) => ({
  matchType:
    match.kind === 'present'
      ? { case: 'presence' as const, value: {} }
      : { case: match.kind, value: match.text },
})

const rangeOf = ({ address, length }: PolicyMatch['sourceIps'][number]) => ({
  address: ipAddressToBytes(address),
  length,
})

/** The witness's message, field by field in its own words. */
function witness({ name, namespace, scope, action, rules, isDryRun }: Policy): Authorization {
  return create(AuthorizationSchema, {
    name,
    namespace,
    scope: ['mesh', 'namespace', 'workload'].indexOf(scope),
    action: ['allow', 'deny'].indexOf(action),
    dryRun: isDryRun,
    rules: rules.map(({ clauses }) => ({
      clauses: clauses.map(({ matches }) => ({
        matches: matches.map((match) => ({
          namespaces: match.namespaces.map(textOf),
          notNamespaces: match.notNamespaces.map(textOf),
          principals: match.principals.map(textOf),
          notPrincipals: match.notPrincipals.map(textOf),
          sourceIps: match.sourceIps.map(rangeOf),
          notSourceIps: match.notSourceIps.map(rangeOf),
          destinationIps: match.destinationIps.map(rangeOf),
          notDestinationIps: match.notDestinationIps.map(rangeOf),
          destinationPorts: [...match.destinationPorts],
          notDestinationPorts: [...match.notDestinationPorts],
          serviceAccounts: [...match.serviceAccounts],
          notServiceAccounts: [...match.notServiceAccounts],
        })),
      })),
    })),
  })
}

/** What a reader of Istio's schema gets of a policy: what is our own is left out. */
function foreign(each: Policy): Policy {
  return {
    ...each,
    isAudit: false,
    madeOf: '',
    rules: each.rules.map(({ clauses }) => ({
      clauses: clauses.map(({ matches }) => ({
        matches: matches.map((match) => ({ ...match, isPartlyUnread: false })),
      })),
      place: undefined,
    })),
  }
}

void t.test('what the table writes, protobuf-es reads as the same', (t) => {
  fc.assert(
    fc.property(policy, (each) => {
      const read = fromBinary(AuthorizationSchema, POLICY.encode(each), {
        readUnknownFields: false,
      })
      t.same(read, witness(each))
    }),
    { numRuns: 300 },
  )
  t.end()
})

void t.test('what protobuf-es writes, the table reads as the same', (t) => {
  fc.assert(
    fc.property(policy, (each) => {
      const read = AUTHORIZATION.decode(each.key, toBinary(AuthorizationSchema, witness(each)))
      t.strictSame(read, { ok: true, value: foreign(each) })
    }),
    { numRuns: 300 },
  )
  t.end()
})

void t.test('what is written in every field, our own included, is read as the same', (t) => {
  let unread = 0
  fc.assert(
    fc.property(policy, (each) => {
      // What cannot be read here stays so on the way: told on without it, a match would be a wider one.
      if (JSON.stringify(each).includes('"isPartlyUnread":true')) unread += 1
      t.strictSame(AUTHORIZATION.decode(each.key, AUTHORIZATION.encode(each)), {
        ok: true,
        value: each,
      })
    }),
    { numRuns: 500 },
  )
  t.ok(unread > 10, `${unread} were partly unread`)
  t.end()
})

void t.test('every prefix length of both families goes over the wire, and none beyond', (t) => {
  for (const address of [ip('10.1.2.3'), ip('2001:db8::1')]) {
    const longest = isIpv4Address(address) ? 32 : 128
    for (let length = 0; length <= longest; length += 1) {
      const each = samplePolicy('ranges', 'deny', [
        { sourceIps: [{ address, length }], notDestinationIps: [{ address, length }] },
      ])
      t.strictSame(AUTHORIZATION.decode(each.key, AUTHORIZATION.encode(each)), {
        ok: true,
        value: each,
      })
    }
    const beyond = samplePolicy('r', 'deny', [{ sourceIps: [{ address, length: longest + 1 }] }])
    const read = AUTHORIZATION.decode(beyond.key, toBinary(AuthorizationSchema, witness(beyond)))
    t.equal(
      read.ok ? 'accepted' : formatResourceProblem(read.error),
      `Cannot use resource shop/r: rules[0].clauses[0].matches[0].source_ips[0].length: is ${longest + 1}, more than ${longest}`,
    )
  }
  t.end()
})

void t.test('a bad policy is refused by field, and never read as a narrower or wider one', (t) => {
  const refused = (init: Parameters<typeof create<typeof AuthorizationSchema>>[1]): string => {
    const message = create(AuthorizationSchema, { namespace: 'shop', name: 'p', ...init })
    const read = AUTHORIZATION.decode('shop/p', toBinary(AuthorizationSchema, message))
    return read.ok ? 'accepted' : `${read.error.field}: ${read.error.reason}`
  }
  const match = (fields: object): string =>
    refused({ rules: [{ clauses: [{ matches: [fields] }] }] })
  t.match(refused({ name: '' }), /^name: is empty/)
  t.match(refused({ name: 'q' }), /makes the key "shop\/q", not the resource's name/)
  t.match(refused({ action: 2 as never }), /^action: unknown value 2/)
  t.match(refused({ scope: 3 as never }), /^scope: unknown value 3/)
  t.match(match({ principals: [{}] }), /principals\[0\]: says no kind of match/)
  t.match(match({ sourceIps: [{ length: 8 }] }), /source_ips\[0\]\.address: is empty/)
  t.match(
    match({ sourceIps: [{ address: new Uint8Array(5) }] }),
    /source_ips\[0\]\.address: has 5 bytes, an address has 4 or 16/,
  )
  t.match(match({ destinationPorts: [70_000] }), /destination_ports\[0\]: 70000 is not a port/)
  t.match(match({ serviceAccounts: [{ namespace: 'a' }] }), /service_account: is empty/)
  t.end()
})

void t.test('a hostile policy is refused for what it would cost', (t) => {
  const reasonOf = (bytes: Uint8Array): string => {
    const read = AUTHORIZATION.decode('shop/p', bytes)
    return read.ok ? 'accepted' : formatResourceProblem(read.error)
  }
  t.match(reasonOf(new Uint8Array(10 * 1024 * 1024)), /resource: has 10485760 bytes, more than/)
  const rules = new BinaryWriter()
  for (let index = 0; index < 100_000; index += 1)
    rules.tag(5, WireType.LengthDelimited).bytes(new Uint8Array())
  t.match(reasonOf(rules.finish()), /rules: has more than 10000 entries/)
  const deep = Buffer.alloc(1_000_000, (15 << 3) | 3)
  t.match(reasonOf(deep), /nests groups too deep/)
  t.end()
})

void t.test('whatever the bytes are, the answer is a policy or a problem', (t) => {
  const mutated = fc
    .tuple(policy, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 8 }))
    .map(([each, changes]) => {
      const bytes = AUTHORIZATION.encode(each)
      for (const [at, byte] of changes) if (bytes.length > 0) bytes[at % bytes.length] = byte
      return bytes
    })
  const cut = fc.tuple(policy, fc.nat()).map(([each, at]) => {
    const bytes = AUTHORIZATION.encode(each)
    return bytes.subarray(0, at % Math.max(1, bytes.length))
  })
  let refused = 0
  fc.assert(
    fc.property(fc.oneof(mutated, cut, fc.uint8Array({ maxLength: 400 })), (bytes) => {
      const read = AUTHORIZATION.decode('a/p0', bytes)
      if (read.ok) return
      refused += 1
      t.ok(read.error.reason.length > 0)
    }),
    { numRuns: 2_000 },
  )
  t.ok(refused > 1_000, `${refused} were refused`)
  t.end()
})

/** A field of a message, with these bytes in it. */
const inside = (field: number, bytes: Uint8Array): Uint8Array =>
  new BinaryWriter().tag(field, WireType.LengthDelimited).bytes(bytes).finish()
const text = (field: number, value: string): Uint8Array => inside(field, Buffer.from(value))

void t.test('conditions of a later version make a match one that cannot be told', (t) => {
  const named = Buffer.concat([text(1, 'p'), text(2, 'shop')])
  const isPartlyUnread = (field: number): unknown => {
    const match = inside(field, text(1, 'later'))
    const read = AUTHORIZATION.decode(
      'shop/p',
      Buffer.concat([named, inside(5, inside(1, inside(2, match)))]),
    )
    return read.ok && read.value.rules[0]?.clauses[0]?.matches[0]
  }
  t.strictSame(isPartlyUnread(13), { ...EMPTY_MATCH, isPartlyUnread: true }, 'extensions')
  t.strictSame(isPartlyUnread(14), { ...EMPTY_MATCH, isPartlyUnread: true }, 'a new one')
  t.strictSame(isPartlyUnread(1001), EMPTY_MATCH, 'one of ours only refines')
  t.end()
})

void t.test(
  'what a later version may mean by more than is known here is refused, not passed over',
  (t) => {
    const later = text(99, 'later')
    const refines = text(1099, 'later')
    const read = <T>(
      type: ResourceType<T>,
      name: string,
      ...parts: readonly Uint8Array[]
    ): string => {
      const found = type.decode(name, Buffer.concat(parts))
      return found.ok ? 'read' : `${found.error.field}: ${found.error.reason}`
    }
    const refused = /has a field 99 that this version does not know/
    const own = [text(1, 'p'), text(2, 'shop')]
    for (const [where, wrap] of [
      ['a rule', (bytes: Uint8Array) => inside(5, bytes)],
      ['a clause', (bytes: Uint8Array) => inside(5, inside(1, bytes))],
    ] as const)
      for (const type of [AUTHORIZATION, WAYPOINT_POLICIES] as readonly ResourceType<unknown>[]) {
        t.match(read(type, 'shop/p', ...own, wrap(later)), refused, `${type.typeUrl}, ${where}`)
        t.equal(read(type, 'shop/p', ...own, wrap(refines)), 'read', `${type.typeUrl}, ${where}`)
      }
    t.equal(read(AUTHORIZATION, 'shop/p', ...own, later), 'read', "Istio's own may be told of more")
    const ofOurs = [
      [WAYPOINT_POLICIES, 'shop/p', own],
      [NETWORK, 'shop/p', [text(1, 'shop'), text(2, 'p')]],
      [BACKEND_TLS, 'shop/a', [text(1, 'shop/a')]],
      [HTTP_ROUTES, 'shop/a', [text(1, 'shop/a')]],
    ] as const
    for (const [type, name, parts] of ofOurs) {
      t.equal(read(type as ResourceType<unknown>, name, ...parts), 'read', type.typeUrl)
      t.match(read(type as ResourceType<unknown>, name, ...parts, later), refused, type.typeUrl)
      t.equal(read(type as ResourceType<unknown>, name, ...parts, refines), 'read', type.typeUrl)
    }
    t.end()
  },
)
