// SPDX-License-Identifier: Apache-2.0
// What a graph of collections promises, one promise a test.

import t from 'tap'
import { Graph } from '../../mesh/collections/index.ts'
import type { GraphFault } from '../../mesh/collections/types.ts'

interface Pod {
  readonly app: string
  readonly node: string
}

function start() {
  const faults: GraphFault[] = []
  const graph = new Graph({ onFault: (fault) => void faults.push(fault) })
  const pods = graph.source<string, Pod>('pods')
  const zones = graph.source<string, string>('zones')
  return { graph, pods, zones, faults }
}

void t.test(
  'who reads a key is computed again when that key changes, and nobody else',
  async (t) => {
    const { graph, pods, zones } = start()
    const computed: string[] = []
    const zoned = graph.derive('zoned', pods, (fetch, pod, name) => {
      computed.push(name)
      return [[name, fetch(zones, pod.node) ?? 'nowhere']]
    })
    graph.batch(() => {
      pods.set('x', { app: 'a', node: 'n1' })
      pods.set('y', { app: 'a', node: 'n2' })
      zones.set('n1', 'z1')
      pods.complete()
      zones.complete()
    })
    t.strictSame([zoned.get('x'), zoned.get('y')], ['z1', 'nowhere'])
    t.strictSame(computed.splice(0), ['x', 'y'])
    zones.set('n2', 'z2')
    t.strictSame(computed.splice(0), ['y'], 'a key that was not there was read, too')
    t.equal(zoned.get('y'), 'z2')
    pods.set('y', { app: 'a', node: 'n3' })
    computed.splice(0)
    zones.set('n2', 'z9')
    t.strictSame(computed, [], 'what is read no more is no dependency any more')
  },
)

void t.test('what lies under the key of an input itself is read like any other', async (t) => {
  const { graph, pods, zones } = start()
  const computed: string[] = []
  const zoned = graph.derive('zoned', pods, (fetch, pod, name) => {
    computed.push(name)
    return pod.app === 'none' ? [] : [[name, fetch(zones, name) ?? 'nowhere']]
  })
  graph.batch(() => {
    pods.set('x', { app: 'a', node: 'n1' })
    pods.set('y', { app: 'a', node: 'n1' })
    pods.complete()
    zones.complete()
  })
  computed.splice(0)
  zones.set('y', 'z1')
  t.strictSame(computed.splice(0), ['y'])
  t.strictSame([zoned.get('x'), zoned.get('y')], ['nowhere', 'z1'])
  zones.set('z', 'z1')
  t.strictSame(computed, [], 'there is no such input')
  pods.delete('y')
  zones.set('y', 'z2')
  t.strictSame([...zoned.keys()], ['x'], 'an input that is gone does not come back')
  pods.set('x', { app: 'none', node: 'n1' })
  t.equal(zoned.size, 0)
})

void t.test('an input has its own key only as long as no earlier one gives it', async (t) => {
  const { graph, pods, zones } = start()
  const byNode = graph.derive('by node', pods, (_fetch, pod, name) => [[pod.node, name]])
  graph.batch(() => {
    pods.set('m', { app: 'a', node: 'm' })
    pods.complete()
    zones.complete()
  })
  t.equal(byNode.get('m'), 'm')
  pods.set('b', { app: 'a', node: 'm' })
  t.equal(byNode.get('m'), 'b')
  t.strictSame([byNode.size, ...byNode.keys()], [1, 'm'])
  pods.delete('b')
  t.strictSame([byNode.get('m'), byNode.size], ['m', 1])
  pods.set('m', { app: 'a', node: 'z' })
  t.strictSame([...byNode.keys()], ['z'])
})

void t.test('an index is read by key, in an order that does not depend on events', async (t) => {
  const { graph, pods, zones } = start()
  const podsByApp = pods.index((pod) => [pod.app])
  const computed: string[] = []
  const members = graph.derive('members', zones, (fetch, _zone, app) => {
    computed.push(app)
    return [[app, fetch(podsByApp, app).map((pod) => pod.node)]]
  })
  for (const app of ['a', 'b']) zones.set(app, '')
  for (const name of ['z', 'm', 'k']) pods.set(name, { app: 'a', node: name })
  pods.complete()
  zones.complete()
  t.strictSame(members.get('a'), ['k', 'm', 'z'])
  computed.splice(0)
  pods.set('m', { app: 'b', node: 'm' })
  t.strictSame(computed.splice(0).sort(), ['a', 'b'], 'a move is news to both keys')
  pods.set('k', { app: 'a', node: 'other' })
  t.strictSame(computed.splice(0), ['a'], 'a changed value is news to its key')
  pods.set('new', { app: 'c', node: 'n' })
  t.strictSame(computed, [])
  t.strictSame(members.get('a'), ['other', 'z'])
})

void t.test('a diamond is computed once, and never sees one side without the other', async (t) => {
  const { graph, pods, zones } = start()
  const numbers = graph.source<string, number>('numbers')
  const tens = graph.derive('tens', numbers, (_fetch, n, key) => [[key, n * 10]])
  const hundreds = graph.derive('hundreds', numbers, (_fetch, n, key) => [[key, n * 100]])
  const seen: (readonly [number, number | undefined])[] = []
  const joined = graph.derive('joined', tens, (fetch, ten, key) => {
    const hundred = fetch(hundreds, key)
    seen.push([ten, hundred])
    return [[key, ten + (hundred ?? 0)]]
  })
  graph.batch(() => {
    for (const source of [pods, zones, numbers]) source.complete()
    numbers.set('k', 1)
  })
  numbers.set('k', 2)
  t.strictSame(seen, [
    [10, 100],
    [20, 200],
  ])
  t.equal(joined.get('k'), 220)
})

void t.test('a batch is one change: the net difference, told once', async (t) => {
  const { graph, pods, zones } = start()
  const told: unknown[] = []
  graph.batch(() => {
    pods.set('stays', { app: 'a', node: 'n' })
    pods.complete()
    zones.complete()
  })
  pods.subscribe((changes) => void told.push(changes))
  t.strictSame(told.splice(0), [
    [{ key: 'stays', previous: undefined, current: { app: 'a', node: 'n' } }],
  ])
  graph.batch(() => {
    pods.set('stays', { app: 'a', node: 'moving' })
    pods.set('brief', { app: 'a', node: 'n' })
    graph.batch(() => pods.delete('brief'))
    pods.set('stays', { app: 'a', node: 'n' })
  })
  t.strictSame(told.splice(0), [], 'what ends as it began is not told')
  graph.batch(() => {
    pods.delete('stays')
    pods.set('new', { app: 'a', node: 'n' })
  })
  t.strictSame(told, [
    [
      { key: 'stays', previous: { app: 'a', node: 'n' }, current: undefined },
      { key: 'new', previous: undefined, current: { app: 'a', node: 'n' } },
    ],
  ])
})

void t.test('nothing is computed before every source that could be read is complete', async (t) => {
  const { graph, pods, zones } = start()
  const zoned = graph.derive('zoned', pods, (fetch, pod, name) => [
    [name, fetch(zones, pod.node) ?? 'nowhere'],
  ])
  const later = graph.source<string, string>('later')
  const told: unknown[] = []
  zoned.subscribe((changes) => void told.push(changes))
  pods.set('x', { app: 'a', node: 'n1' })
  pods.complete()
  t.strictSame([zoned.isSynced, zoned.size, told.length], [false, 0, 0])
  zones.complete()
  t.strictSame([zoned.isSynced, zoned.get('x'), told.length], [true, 'nowhere', 1])
  t.equal(later.isSynced, false)
  const empty = graph.derive('empty', zones, () => [])
  let calls = 0
  empty.subscribe((changes) => {
    calls += 1
    t.strictSame(changes, [])
  })
  t.equal(calls, 0, 'a source made before it is not complete')
  later.complete()
  t.equal(calls, 1, 'being synced with nothing is news, once')
  zones.set('n1', 'z1')
  t.equal(calls, 1)
})

void t.test('an input whose transformation throws has no outputs; the others go on', async (t) => {
  const { graph, pods, zones, faults } = start()
  const zoned = graph.derive('zoned', pods, (fetch, pod, name) => {
    const zone = fetch(zones, pod.node)
    if (zone === 'cursed') throw new Error('no such place')
    return [[name, zone ?? 'nowhere']]
  })
  graph.batch(() => {
    pods.set('x', { app: 'a', node: 'n1' })
    pods.set('y', { app: 'a', node: 'n2' })
    zones.set('n1', 'cursed')
    pods.complete()
    zones.complete()
  })
  t.strictSame([zoned.get('x'), zoned.get('y')], [undefined, 'nowhere'])
  t.match([...zoned.errors], [['x', { message: 'no such place' }]])
  t.match(faults, [{ collection: 'zoned', key: 'x' }])
  zones.set('n1', 'z1')
  t.strictSame([zoned.get('x'), zoned.errors.size], ['z1', 0], 'what it read has changed')
})

void t.test('a key that several inputs give is the first one’s, however they came', async (t) => {
  const { graph, pods, zones } = start()
  const byApp = graph.derive('by app', pods, (_fetch, pod) => [[pod.app, pod.node]])
  pods.complete()
  zones.complete()
  for (const name of ['m', 'z', 'b']) pods.set(name, { app: 'a', node: name })
  t.equal(byApp.get('a'), 'b')
  pods.delete('b')
  t.equal(byApp.get('a'), 'm')
  pods.set('m', { app: 'other', node: 'm' })
  t.equal(byApp.get('a'), 'z')
  pods.delete('z')
  t.strictSame([byApp.get('a'), byApp.size], [undefined, 1])
})

void t.test('what breaks the rules is told, not obeyed', async (t) => {
  const { graph, pods, zones, faults } = start()
  let leaked: (() => unknown) | undefined
  graph.derive('writes', pods, (_fetch, _pod, name) => {
    zones.set(name, 'z')
    return []
  })
  graph.derive('reads ahead', pods, (fetch, _pod, name) => [[name, fetch(after, name) ?? 'none']])
  const after = graph.derive('after', pods, (fetch, _pod, name) => {
    leaked = () => fetch(zones, name)
    return [[name, 'fine']]
  })
  const hurt = zones.index((zone) => {
    if (zone === 'bad') throw new Error('not to be indexed')
    return [zone]
  })
  pods.subscribe(() => {
    throw new Error('a listener’s own fault')
  })
  graph.batch(() => {
    pods.set('x', { app: 'a', node: 'n1' })
    zones.set('one', 'bad')
    zones.set('two', 'good')
    pods.complete()
    zones.complete()
  })
  zones.delete('one')
  t.match(
    faults.map(({ collection, error }) => `${collection}: ${(error as Error).message}`),
    [
      'zones: not to be indexed',
      /writes: a transformation changes the source zones/,
      /reads ahead: .*made after it/,
      'pods: a listener’s own fault',
      'zones: not to be indexed',
    ],
  )
  t.strictSame([after.get('x'), hurt.get('good')], ['fine', ['good']])
  t.throws(() => leaked?.(), /fetches while it is not asked/)
})

void t.test('a listener may change a source; that is the next commit', async (t) => {
  const { graph, pods, zones } = start()
  const events: string[] = []
  pods.complete()
  zones.complete()
  pods.subscribe((changes) => {
    for (const { key } of changes) zones.set(key, 'seen')
    events.push(`pods ${changes.length}`)
  })
  zones.subscribe((changes) => void events.push(`zones ${changes.length}`))
  graph.afterCommit(() => void events.push('commit'))
  events.splice(0)
  pods.set('x', { app: 'a', node: 'n' })
  t.strictSame(events, ['pods 1', 'commit', 'zones 1', 'commit'])
})
