// SPDX-License-Identifier: Apache-2.0
// Watches over HTTP: resuming, selectors, bookmarks, 410 Gone, and that a watcher who loses its
// connection again and again ends up with what a list shows.

import { request } from 'node:https'
import { createInterface } from 'node:readline'
import fc from 'fast-check'
import t from 'tap'
import type { StoredObject } from '../../lab/kubernetes/objects/stored-object.ts'
import { within } from '../support/until.ts'
import { type ClusterUnderTest, contract, startCluster } from './cluster.ts'

type Event = { readonly type: string; readonly object: StoredObject & { readonly code?: number } }
type Watch = { next(): Promise<Event | 'ended'>; stop(): void }

/** Opens a watch and hands out its events one by one. */
function openWatch(cluster: ClusterUnderTest, path: string): Watch {
  const queue: (Event | 'ended')[] = []
  let waiting: ((event: Event | 'ended') => void) | undefined
  const push = (event: Event | 'ended'): void => {
    if (waiting === undefined) queue.push(event)
    else {
      waiting(event)
      waiting = undefined
    }
  }
  const outgoing = request(`${cluster.url}${path}`, {
    ca: cluster.caPem,
    agent: false,
    headers: { authorization: `Bearer ${cluster.adminToken}` },
  })
  let isEnded = false
  const ended = (): void => {
    if (!isEnded) push('ended')
    isEnded = true
  }
  outgoing.on('response', (response) => {
    const lines = createInterface(response)
    lines.on('line', (line) => push(JSON.parse(line) as Event))
    lines.on('error', ended)
    response.on('close', ended)
    response.on('error', ended)
  })
  outgoing.on('error', ended)
  outgoing.end()
  return {
    next: () => {
      const event = queue.shift()
      if (event !== undefined) return Promise.resolve(event)
      const { promise, resolve } = Promise.withResolvers<Event | 'ended'>()
      waiting = resolve
      return within(promise, 'an event')
    },
    stop: () => outgoing.destroy(),
  }
}

const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps'

async function revision(cluster: ClusterUnderTest): Promise<string> {
  const list = (await (await cluster.fetch(CONFIG_MAPS)).json()) as StoredObject
  return list.metadata.resourceVersion
}

async function put(
  cluster: ClusterUnderTest,
  name: string,
  labels: { readonly [key: string]: string } = {},
): Promise<void> {
  const existing = await cluster.api.get('configmaps', 'default', name)
  const object = { metadata: { name, labels }, data: { at: String(Math.random()) } }
  const written = existing.ok
    ? await cluster.api.update('configmaps', 'default', object)
    : await cluster.api.create('configmaps', 'default', object)
  if (!written.ok) throw new Error(written.error.message)
}

contract(
  'a watch from a list sees every later change, in order',
  { nodes: 0 },
  async (t, cluster) => {
    const since = await revision(cluster)
    await put(cluster, 'a')
    const watch = openWatch(cluster, `${CONFIG_MAPS}?watch=true&resourceVersion=${since}`)
    t.match(await watch.next(), {
      type: 'ADDED',
      object: { kind: 'ConfigMap', metadata: { name: 'a' } },
    })
    await put(cluster, 'a')
    await put(cluster, 'b')
    await cluster.api.delete('configmaps', 'default', 'a')
    const events = [await watch.next(), await watch.next(), await watch.next()]
    t.match(events, [
      { type: 'MODIFIED', object: { metadata: { name: 'a' } } },
      { type: 'ADDED', object: { metadata: { name: 'b' } } },
      { type: 'DELETED', object: { metadata: { name: 'a' } } },
    ])
    const revisions = events.map(
      (event) => event !== 'ended' && Number(event.object.metadata.resourceVersion),
    )
    t.strictSame(revisions, revisions.toSorted(), 'a deletion carries its own revision')
    watch.stop()
  },
)

contract('objects enter and leave the sight of a selector', { nodes: 0 }, async (t, cluster) => {
  await put(cluster, 'other')
  const since = await revision(cluster)
  const watch = openWatch(
    cluster,
    `${CONFIG_MAPS}?watch=true&labelSelector=mesh%3Don&resourceVersion=${since}`,
  )
  await put(cluster, 'a', { mesh: 'off' })
  await put(cluster, 'a', { mesh: 'on' })
  t.match(await watch.next(), { type: 'ADDED', object: { metadata: { name: 'a' } } })
  await put(cluster, 'a')
  t.match(await watch.next(), { type: 'DELETED', object: { metadata: { name: 'a' } } })
  watch.stop()
})

void t.test('a compacted resourceVersion is answered by 410 Expired', async (t) => {
  await using cluster = await startCluster({ nodes: 0 })
  const since = await revision(cluster)
  await put(cluster, 'a')
  cluster.server.compact()
  const watch = openWatch(cluster, `${CONFIG_MAPS}?watch=true&resourceVersion=${since}`)
  t.match(await watch.next(), {
    type: 'ERROR',
    object: { kind: 'Status', code: 410, reason: 'Expired' },
  })
  t.equal(await watch.next(), 'ended')
  const resumed = openWatch(
    cluster,
    `${CONFIG_MAPS}?watch=true&resourceVersion=${await revision(cluster)}`,
  )
  await put(cluster, 'b')
  t.match(await resumed.next(), { type: 'ADDED', object: { metadata: { name: 'b' } } })
  resumed.stop()
})

void t.test('the history is bounded: an old revision expires by itself', async (t) => {
  await using cluster = await startCluster({ nodes: 0, historyLimit: 10 })
  const since = await revision(cluster)
  for (let index = 0; index < 40; index += 1) await put(cluster, 'a')
  const watch = openWatch(cluster, `${CONFIG_MAPS}?watch=true&resourceVersion=${since}`)
  t.match(await watch.next(), { type: 'ERROR', object: { code: 410 } })
})

void t.test('bookmarks come on watches that allow them, and end the initial events', async (t) => {
  await using cluster = await startCluster({ nodes: 0, bookmarkIntervalMs: 20 })
  await put(cluster, 'a')
  const watch = openWatch(
    cluster,
    `${CONFIG_MAPS}?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&fieldSelector=metadata.name%3Da`,
  )
  t.match(await watch.next(), { type: 'ADDED', object: { metadata: { name: 'a' } } })
  t.match(await watch.next(), {
    type: 'BOOKMARK',
    object: { metadata: { annotations: { 'k8s.io/initial-events-end': 'true' } } },
  })
  t.match(await watch.next(), { type: 'BOOKMARK', object: { kind: 'ConfigMap' } })
  watch.stop()
})

void t.test('timeoutSeconds ends a watch in order; breakWatches cuts it', async (t) => {
  await using cluster = await startCluster({ nodes: 0, kubelet: false })
  const since = await revision(cluster)
  const timed = openWatch(
    cluster,
    `${CONFIG_MAPS}?watch=true&timeoutSeconds=1&resourceVersion=${since}`,
  )
  t.equal(await timed.next(), 'ended')
  const cut = openWatch(cluster, `${CONFIG_MAPS}?watch=true&resourceVersion=${since}`)
  await put(cluster, 'a')
  await cut.next()
  t.equal(cluster.server.breakWatches('pods'), 0)
  t.equal(cluster.server.breakWatches('configmaps'), 1)
  t.equal(await cut.next(), 'ended')
})

void t.test('a watcher that reconnects at random ends up with what a list shows', async (t) => {
  await using cluster = await startCluster({ nodes: 0, historyLimit: 15 })
  const names = ['a', 'b', 'c', 'd']
  const step = fc.oneof(
    fc.record({
      do: fc.constant('put' as const),
      name: fc.constantFrom(...names),
      on: fc.boolean(),
    }),
    fc.record({ do: fc.constant('delete' as const), name: fc.constantFrom(...names) }),
    fc.record({ do: fc.constantFrom('reconnect' as const, 'compact' as const) }),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 80 }), async (steps) => {
      const follower = new Follower(cluster)
      await follower.connect()
      for (const one of steps) {
        if (one.do === 'put') await put(cluster, one.name, one.on ? { mesh: 'on' } : {})
        else if (one.do === 'delete') await cluster.api.delete('configmaps', 'default', one.name)
        else if (one.do === 'compact') cluster.server.compact()
        else await follower.reconnect()
      }
      await follower.catchUp()
      const list = await cluster.api.list('configmaps', {
        namespace: 'default',
        labelSelector: 'mesh=on',
      })
      const wanted = list.ok
        ? list.value.map((one) => `${one.metadata.name}@${one.metadata.resourceVersion}`)
        : []
      follower.stop()
      t.strictSame(follower.seen(), wanted)
      return JSON.stringify(follower.seen()) === JSON.stringify(wanted)
    }),
    { numRuns: 25 },
  )
})

/** What an informer does: list, watch from there, and list again after a 410. */
class Follower {
  readonly #cluster: ClusterUnderTest
  readonly #objects = new Map<string, string>()
  #watch: Watch | undefined
  #revision = ''

  constructor(cluster: ClusterUnderTest) {
    this.#cluster = cluster
  }

  async connect(): Promise<void> {
    const response = await this.#cluster.fetch(`${CONFIG_MAPS}?labelSelector=mesh%3Don`)
    const list = (await response.json()) as StoredObject & {
      readonly items: readonly StoredObject[]
    }
    this.#objects.clear()
    for (const { metadata } of list.items)
      this.#objects.set(metadata.name, metadata.resourceVersion)
    this.#revision = list.metadata.resourceVersion
    this.#open()
  }

  async reconnect(): Promise<void> {
    // Something must come, or this would wait for ever.
    await put(this.#cluster, 'marker', { mesh: 'on' })
    await this.#take()
    this.stop()
    this.#open()
  }

  /** Reads until a marker written now has come, whatever happened to the watch. */
  async catchUp(): Promise<void> {
    await put(this.#cluster, 'marker', { mesh: 'on' })
    const marker = await this.#cluster.api.get('configmaps', 'default', 'marker')
    const wanted = marker.ok ? marker.value.metadata.resourceVersion : ''
    while (this.#objects.get('marker') !== wanted) await this.#take()
  }

  seen(): readonly string[] {
    return [...this.#objects].map(([name, at]) => `${name}@${at}`).toSorted()
  }

  stop(): void {
    this.#watch?.stop()
  }

  #open(): void {
    this.#watch = openWatch(
      this.#cluster,
      `${CONFIG_MAPS}?watch=true&allowWatchBookmarks=true&labelSelector=mesh%3Don&resourceVersion=${this.#revision}`,
    )
  }

  async #take(): Promise<void> {
    const event = await this.#watch?.next()
    if (event === undefined || event === 'ended' || event.type === 'ERROR') return this.connect()
    const { name, resourceVersion } = event.object.metadata
    if (event.type === 'DELETED') this.#objects.delete(name)
    else if (event.type !== 'BOOKMARK') this.#objects.set(name, resourceVersion)
    this.#revision = resourceVersion
  }
}
