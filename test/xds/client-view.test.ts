// SPDX-License-Identifier: Apache-2.0
// What the server keeps of a client, and how long the client waits before it comes back.

import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import fc from 'fast-check'
import t from 'tap'
import { DeltaDiscoveryRequestSchema, NodeSchema } from '../../mesh/proto/gen/discovery_pb.js'
import { ClientView } from '../../mesh/xds/client-view.ts'
import { Debounce } from '../../mesh/xds/debounce.ts'
import { nodeMessage } from '../../mesh/xds/node.ts'
import { aliasesOf, ResourceStore } from '../../mesh/xds/resource-store.ts'
import { NODE } from './support.ts'

const resource = (name: string, content: number) => ({
  name,
  aliases: [],
  payload: Uint8Array.of(content),
})

void t.test(
  'a version is the content: the same after it went and came back, or in another store',
  async (t) => {
    const [store, replica] = [new ResourceStore(), new ResourceStore()]
    t.equal(store.set(resource('a', 1)), true)
    t.equal(store.set(resource('a', 1)), false, 'nothing changed')
    const version = store.get('a')?.version
    t.equal(store.set(resource('a', 2)), true)
    t.not(store.get('a')?.version, version)
    store.delete('a')
    store.set(resource('a', 1))
    replica.set(resource('a', 1))
    t.equal(store.get('a')?.version, version)
    t.equal(replica.get('a')?.version, version)
  },
)

void t.test('a name that was an alias of two resources finds the one that is left', async (t) => {
  const store = new ResourceStore()
  store.set({ ...resource('a', 1), aliases: ['x'] })
  store.set({ ...resource('b', 1), aliases: ['x', 'y'] })
  t.strictSame(store.resolve('x'), ['a', 'b'])
  store.delete('a')
  store.set({ ...resource('b', 1), aliases: ['x'] })
  t.strictSame(store.resolve('x'), ['b'])
  t.strictSame(store.resolve('y'), [])
})

void t.test(
  'whatever changes and whenever it is acknowledged, the client ends with the store’s state',
  async () => {
    const step = fc.oneof(
      fc.record({
        do: fc.constant('set' as const),
        name: fc.constantFrom('a', 'b', 'c'),
        content: fc.integer({ min: 0, max: 3 }),
      }),
      fc.record({ do: fc.constant('delete' as const), name: fc.constantFrom('a', 'b', 'c') }),
      fc.record({ do: fc.constant('acknowledge' as const) }),
      fc.record({ do: fc.constant('reconnect' as const) }),
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const store = new ResourceStore()
        const held = new Map<string, string>()
        let nonce = 0
        let view = new ClientView(store)
        const open = (): void => {
          view = new ClientView(store)
          const initialResourceVersions = Object.fromEntries(held)
          view.onRequest(
            create(DeltaDiscoveryRequestSchema, {
              resourceNamesSubscribe: ['*'],
              initialResourceVersions,
            }),
          )
        }
        const receive = (): void => {
          const batch = view.takeBatch()
          if (batch === undefined) return
          nonce += 1
          view.sentAs(String(nonce))
          for (const { name, version } of batch.resources) held.set(name, version)
          for (const name of batch.removed) held.delete(name)
        }
        const acknowledge = (): void => {
          const responseNonce = String(nonce)
          view.onRequest(create(DeltaDiscoveryRequestSchema, { responseNonce }))
        }
        open()
        for (const each of steps) {
          if (each.do === 'set' && store.set(resource(each.name, each.content)))
            view.onChange(each.name, [])
          if (each.do === 'delete' && store.delete(each.name) !== undefined)
            view.onChange(each.name, [])
          if (each.do === 'acknowledge') acknowledge()
          if (each.do === 'reconnect') open()
          receive()
          if (view.pendingNames > 3) return false
        }
        acknowledge()
        receive()
        const expected = [...store.names()].map((name) => `${name} ${store.get(name)?.version}`)
        const actual = [...held].map(([name, version]) => `${name} ${version}`)
        return expected.sort().join() === actual.sort().join()
      }),
    )
  },
)

/** A client that asked for names one by one, and what it is sent. */
function onDemand(store: ResourceStore): {
  ask: (
    subscribe: readonly string[],
    unsubscribe?: readonly string[],
    holds?: Readonly<Record<string, string>>,
  ) => void
  put: (name: string, content: number, ...aliases: readonly string[]) => void
  drop: (name: string) => void
  hears: () => string
} {
  const view = new ClientView(store)
  let nonce = 0
  const aliasesIn = (name: string): readonly string[] => {
    const stored = store.get(name)
    return stored === undefined ? [] : aliasesOf(stored)
  }
  return {
    ask(subscribe, unsubscribe = [], holds = {}) {
      view.onRequest(
        create(DeltaDiscoveryRequestSchema, {
          resourceNamesSubscribe: [...subscribe],
          resourceNamesUnsubscribe: [...unsubscribe],
          initialResourceVersions: holds,
        }),
      )
    },
    put(name, content, ...aliases) {
      const before = aliasesIn(name)
      if (store.set({ ...resource(name, content), aliases }))
        view.onChange(name, [...before, ...aliases])
    },
    drop(name) {
      const before = aliasesIn(name)
      store.delete(name)
      view.onChange(name, before)
    },
    hears() {
      nonce += 1
      const batch = view.takeBatch()
      if (batch !== undefined) view.sentAs(String(nonce))
      view.onRequest(create(DeltaDiscoveryRequestSchema, { responseNonce: String(nonce) }))
      const { resources = [], removed = [] } = batch ?? {}
      return [...resources.map(({ name }) => name), ...removed.map((name) => `-${name}`)].join(' ')
    },
  }
}

void t.test(
  'who asked for an address hears of what it was given, also when the address is another’s',
  async (t) => {
    const { ask, put, drop, hears } = onDemand(new ResourceStore())
    put('pod', 1, 'net/10.0.0.1')
    put('stranger', 1, 'net/10.0.0.9')
    ask(['net/10.0.0.1'])
    t.equal(hears(), 'pod')
    put('pod', 2, 'net/10.0.0.2')
    t.equal(hears(), 'pod', 'that it lost the address')
    put('pod', 3, 'net/10.0.0.2')
    put('stranger', 2, 'net/10.0.0.9')
    t.equal(hears(), 'pod', 'and whatever comes after')
    put('heir', 1, 'net/10.0.0.1')
    t.equal(hears(), 'heir')
    put('heir', 2)
    t.equal(hears(), 'heir')
    drop('pod')
    t.equal(hears(), '-pod')
    put('pod', 4, 'net/10.0.0.2')
    t.equal(hears(), '', 'another one of that name is none that it asked for')
    drop('heir')
    put('heir', 3)
    t.equal(hears(), 'heir', 'gone and back before it heard: still the one it holds')
  },
)

for (const [how, subscribe, unsubscribe] of [
  ['and takes everything back at once', [], ['*']],
  ['and asks for a name', ['elsewhere'], []],
] as const)
  void t.test(
    `who comes again ${how} hears what became of what it holds, and what will`,
    async (t) => {
      const store = new ResourceStore()
      const { ask, put, drop, hears } = onDemand(store)
      put('same', 1)
      put('changed', 2, 'net/10.0.0.2')
      put('stranger', 1)
      put('elsewhere', 1)
      const same = store.get('same')?.version ?? ''
      ask(subscribe, unsubscribe, { same, changed: 'older', gone: 'any' })
      t.equal(hears(), ['changed', ...subscribe, '-gone'].join(' '))
      put('same', 2)
      put('changed', 3)
      put('stranger', 2)
      t.equal(hears(), 'same changed')
      drop('same')
      t.equal(hears(), '-same')
    },
  )

void t.test('who wants an address no more hears no more of what had it', async (t) => {
  const { ask, put, hears } = onDemand(new ResourceStore())
  put('pod', 1, 'a', 'b')
  ask(['a', 'b'])
  t.equal(hears(), 'pod')
  put('pod', 2)
  t.equal(hears(), 'pod')
  ask([], ['a'])
  put('pod', 3)
  t.equal(hears(), 'pod', 'the other address stands')
  ask([], ['b'])
  put('pod', 4)
  t.equal(hears(), '')
  put('pod', 5, 'a')
  ask(['a'])
  t.equal(hears(), 'pod')
  ask([], ['pod'])
  put('pod', 6)
  t.equal(hears(), 'pod', 'the address that it had still stood')
  ask([], ['pod'])
  put('pod', 7)
  t.equal(hears(), '', 'by name, too')
})

void t.test(
  'a burst calls back once, and a burst without end calls back all the same',
  async (t) => {
    let calls = 0
    const { promise: called, resolve } = Promise.withResolvers<void>()
    const debounce = new Debounce(() => {
      calls += 1
      resolve()
    })
    for (let index = 0; index < 100; index += 1) debounce.trigger()
    t.equal(calls, 0)
    await called
    t.equal(calls, 1)
    debounce.flush()
    t.equal(calls, 1, 'nothing is pending')
    // Never quiet for longer than one turn of the event loop: only the longest delay can end this.
    while (calls < 2) {
      debounce.trigger()
      await new Promise(setImmediate)
    }
    debounce.trigger()
    debounce.flush()
    t.equal(calls, 3)
    debounce.trigger()
    debounce.stop()
    debounce.flush()
    t.equal(calls, 3)
  },
)

void t.test('a proxy names itself as Istio’s control plane expects', async (t) => {
  const node = fromBinary(NodeSchema, toBinary(NodeSchema, nodeMessage(NODE)))
  t.equal(node.id, 'ztunnel~10.244.0.9~ambit-agent-x.ambit-system~ambit-system.svc.cluster.local')
  t.strictSame(node.metadata, {
    NAME: 'ambit-agent-x',
    NAMESPACE: 'ambit-system',
    INSTANCE_IPS: '10.244.0.9',
    NODE_NAME: 'node-a',
    CLUSTER_ID: 'Kubernetes',
  })
})
