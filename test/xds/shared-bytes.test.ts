// SPDX-License-Identifier: Apache-2.0
// What is encoded once for many: nobody gets what was encoded for somebody who may see other things, and requests are read as they would
// be in one piece.

import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import fc from 'fast-check'
import t from 'tap'
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
} from '../../mesh/proto/gen/discovery_pb.js'
import { ClientView } from '../../mesh/xds/client-view.ts'
import { readRequest } from '../../mesh/xds/request.ts'
import { aliasesOf, ResourceStore } from '../../mesh/xds/resource-store.ts'
import { ResponseEncoder } from '../../mesh/xds/response.ts'

const TYPE_URL = 'type.test/thing'
const NAMES = ['a', 'b', 'ü/c'] as const
const CALLERS = ['one', 'other', 'all'] as const
type Caller = (typeof CALLERS)[number]

const resource = (name: string, content: number) => ({
  name,
  aliases: content === 0 ? [] : [`/${name}`, `net/${content}`],
  payload: Uint8Array.of(content, 0xff),
})

const step = fc.oneof(
  fc.record({
    do: fc.constant('set' as const),
    name: fc.constantFrom(...NAMES),
    content: fc.integer({ min: 0, max: 2 }),
  }),
  fc.record({ do: fc.constant('delete' as const), name: fc.constantFrom(...NAMES) }),
  fc.record({
    do: fc.constant('show' as const),
    name: fc.constantFrom(...NAMES),
    to: fc.subarray([...CALLERS]),
  }),
  fc.record({ do: fc.constant('reconnect' as const), caller: fc.constantFrom(...CALLERS) }),
)

void t.test('callers who see different things never get each other’s bytes', async (t) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const store = new ResourceStore()
      const encoder = new ResponseEncoder(TYPE_URL)
      const seenBy = new Map<string, readonly Caller[]>()
      const sees = (caller: Caller, name: string): boolean =>
        caller === 'all' || seenBy.get(name)?.includes(caller) === true
      const clients = new Map<Caller, { view: ClientView; held: Map<string, string> }>()
      const connect = (caller: Caller): void => {
        // Of one who sees all no question is asked, as the server has it.
        const view = new ClientView(
          store,
          false,
          caller === 'all' ? undefined : (name) => sees(caller, name),
        )
        const held = clients.get(caller)?.held ?? new Map<string, string>()
        view.onRequest(
          create(DeltaDiscoveryRequestSchema, {
            resourceNamesSubscribe: ['*'],
            initialResourceVersions: Object.fromEntries(held),
          }),
        )
        clients.set(caller, { view, held })
      }
      const send = (): void => {
        for (const [caller, { view, held }] of clients)
          for (;;) {
            const { lastNonce } = view
            const batch = view.takeBatch()
            if (batch === undefined) break
            const { nonce, bytes } = encoder.encode(batch, lastNonce)
            view.sentAs(nonce)
            const sent = fromBinary(DeltaDiscoveryResponseSchema, bytes)
            t.ok(Number(nonce) > Number(lastNonce ?? 0), 'no nonce comes twice in a stream')
            t.equal(sent.nonce, nonce)
            t.equal(sent.systemVersionInfo, nonce)
            t.equal(sent.typeUrl, TYPE_URL)
            for (const name of sent.removedResources) held.delete(name)
            for (const { name, version, aliases, resource: any } of sent.resources) {
              if (!sees(caller, name)) throw new Error(`${caller} was sent ${name}`)
              const stored = store.get(name)
              t.equal(version, stored?.version)
              t.strictSame(aliases, stored && aliasesOf(stored))
              t.equal(any?.typeUrl, TYPE_URL)
              t.equal(Buffer.from(any?.value ?? []).toString('latin1'), stored?.payload)
              held.set(name, version)
            }
            view.onRequest(create(DeltaDiscoveryRequestSchema, { responseNonce: nonce }))
          }
      }
      const changed = (name: string, aliases: readonly string[]): void => {
        for (const { view } of clients.values()) view.onChange(name, aliases)
      }
      for (const caller of CALLERS) connect(caller)
      send()
      for (const each of steps) {
        if (each.do === 'reconnect') connect(each.caller)
        else {
          const before = store.get(each.name)
          if (each.do === 'set') store.set(resource(each.name, each.content))
          else if (each.do === 'delete') store.delete(each.name)
          else seenBy.set(each.name, each.to)
          changed(each.name, before === undefined ? [] : aliasesOf(before))
        }
        send()
      }
      for (const [caller, { held }] of clients) {
        const visible = [...store.versions()].filter(([name]) => sees(caller, name))
        t.strictSame(new Map([...held].sort()), new Map(visible.sort()), `${caller} has its own`)
      }
    }),
  )
})

void t.test('the same resources are the same bytes, whoever they are for', async (t) => {
  const store = new ResourceStore()
  store.set(resource('a', 1))
  store.set(resource('b', 1))
  const encoder = new ResponseEncoder(TYPE_URL)
  const encode = (former?: string) =>
    encoder.encode({ resources: [...store.all()], removed: ['gone'] }, former)
  const read = (bytes: Uint8Array) => fromBinary(DeltaDiscoveryResponseSchema, bytes)
  const first = encode()
  t.equal(encode().bytes, first.bytes, 'not even copied: a whole mesh is large')
  const again = encode(first.nonce)
  t.not(again.nonce, first.nonce, 'but for whom it would be the same answer twice')
  t.strictSame(read(again.bytes).resources, read(first.bytes).resources)
  store.set(resource('b', 2))
  const [, changed] = read(encode().bytes).resources
  t.not(changed?.version, read(first.bytes).resources[1]?.version, 'a change is told')
  const before = encode()
  encoder.forget()
  t.not(encode().nonce, before.nonce, 'whoever was sent it before it was forgotten')
})

void t.test('a request is read as in one piece, but for what its client holds', async (t) => {
  const text = fc.string({ unit: 'grapheme', maxLength: 200 })
  fc.assert(
    fc.property(
      fc.record({
        typeUrl: text,
        resourceNamesSubscribe: fc.array(text, { maxLength: 3 }),
        resourceNamesUnsubscribe: fc.array(text, { maxLength: 3 }),
        responseNonce: text,
        initialResourceVersions: fc.dictionary(text, fc.stringMatching(/^[a-zA-Z0-9_-]{0,20}$/)),
      }),
      (fields) => {
        const whole = create(DeltaDiscoveryRequestSchema, fields)
        const { message, held } = readRequest(
          Buffer.from(toBinary(DeltaDiscoveryRequestSchema, whole)),
        )
        t.strictSame(
          message,
          create(DeltaDiscoveryRequestSchema, { ...fields, initialResourceVersions: {} }),
        )
        t.equal(held.size, Object.keys(fields.initialResourceVersions).length)
        t.strictSame(new Map(held), new Map(Object.entries(fields.initialResourceVersions)))
      },
    ),
  )
})

void t.test('bytes that are no request are refused or read, and harm nobody', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      try {
        t.ok([...readRequest(Buffer.from(bytes)).held].length >= 0)
      } catch (thrown) {
        t.ok(thrown instanceof Error)
      }
    }),
  )
})
