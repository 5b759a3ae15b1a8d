// SPDX-License-Identifier: Apache-2.0
// The reflector against an API server that breaks in every way one does.

import type { ServerResponse } from 'node:http'
import t, { type Test } from 'tap'
import { pino } from 'pino'
import {
  createKubeApi,
  objectKey,
  PODS,
  watchResource,
  type KubeFailure,
  type Pod,
  type ResourceWatch,
  type WatchOptions,
} from '../../mesh/kube/index.ts'
import { failureOfStatus } from '../../mesh/kube/failure.ts'
import { FaultyApi } from '../support/faulty-api.ts'
import { until } from '../support/until.ts'

const pod = (name: string, labels: Record<string, string> = {}): Pod => ({
  metadata: { namespace: 'shop', name, labels },
  spec: { containers: [{ name: 'app', image: 'app' }], nodeName: 'node-a' },
})

/** A true server gives long lists in pages, which the lab's does not. */
function inPages(stub: FaultyApi): void {
  stub.fail('GET', /pods\?(?!.*watch=true).*limit=/, Infinity, (request, response) => {
    const query = new URL(request.url ?? '', 'http://test').searchParams
    const [limit, offset] = [Number(query.get('limit')), Number(query.get('continue') ?? 0)]
    const all = stub.list(PODS)
    const next = offset + limit < all.length ? String(offset + limit) : undefined
    const metadata = { resourceVersion: String(stub.revision), continue: next }
    const items = all.slice(offset, offset + limit)
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify({ kind: 'PodList', apiVersion: 'v1', metadata, items }))
  })
}

interface Setting {
  readonly stub: FaultyApi
  readonly told: string[]
  readonly failures: KubeFailure[]
  readonly logged: string[]
  watch(options?: Partial<WatchOptions<Pod>>): ResourceWatch<Pod>
}

async function setUp(test: Test): Promise<Setting> {
  const stub = new FaultyApi()
  await stub.start()
  const told: string[] = []
  const failures: KubeFailure[] = []
  const logged: string[] = []
  const logger = pino({ level: 'trace' }, { write: (line: string) => void logged.push(line) })
  const watches: ResourceWatch<Pod>[] = []
  test.teardown(async () => {
    await Promise.all(watches.map((watch) => watch.close()))
    await stub.stop()
  })
  const name = (object: Pod): string =>
    `${object.metadata?.name ?? ''}${object.metadata?.labels?.v ?? ''}`
  return {
    stub,
    told,
    failures,
    logged,
    watch(options = {}) {
      const watch = watchResource(createKubeApi(stub.access()), PODS, {
        logger,
        backoff: { firstMs: 5, longestMs: 20 },
        added: (object) => void told.push(`+${name(object)}`),
        updated: (previous, current) => void told.push(`${name(previous)}>${name(current)}`),
        deleted: (last) => void told.push(`-${name(last)}`),
        failed: (failure) => void failures.push(failure),
        ...options,
      })
      watches.push(watch)
      return watch
    },
  }
}

void t.test('tells what is there first, then every change, in order', async (t) => {
  const { stub, told, watch } = await setUp(t)
  stub.put(PODS, pod('a'))
  const pods = watch()
  await pods.synced
  t.ok(pods.isSynced)
  t.same(told, ['+a'])
  await stub.until(() => stub.watches.size === 1, 'the watch')
  stub.put(PODS, pod('b'))
  stub.put(PODS, pod('a', { v: '2' }))
  stub.remove(PODS, 'shop/b')
  await until(() => told.length === 4, 'four things told')
  t.same(told, ['+a', '+b', 'a>a2', '-b'])
  t.same([...pods.values()].map(objectKey), ['shop/a'])
  t.equal(pods.get('shop/a')?.kind, 'Pod')
})

void t.test('hundreds of objects come in pages', async (t) => {
  const { stub, watch, told } = await setUp(t)
  for (let index = 0; index < 1234; index += 1) stub.put(PODS, pod(`p${index}`))
  inPages(stub)
  const pods = watch()
  await pods.synced
  t.equal(pods.size, 1234)
  t.equal(new Set(told).size, 1234)
  t.equal(stub.requests.filter(({ url }) => !url.searchParams.has('watch')).length, 3)
})

void t.test('a list whose continue token expired starts again in one piece', async (t) => {
  const { stub, watch } = await setUp(t)
  for (let index = 0; index < 700; index += 1) stub.put(PODS, pod(`p${index}`))
  stub.fail('GET', /continue=/, 1, 410, 'Expired')
  inPages(stub)
  const pods = watch()
  await pods.synced
  t.equal(pods.size, 700)
  t.notOk(stub.requests[2]?.url.searchParams.has('limit'))
})

void t.test('what is forbidden is told once, until it is another thing or allowed', async (t) => {
  const { stub, watch, logged, failures, told } = await setUp(t)
  stub.fail('GET', /pods/, 5, 403, 'Forbidden')
  const pods = watch()
  await pods.synced
  t.equal(failures.length, 5, 'whoever asks hears of each')
  const warnings = (): readonly string[] => logged.filter((line) => line.includes('"level":40'))
  t.equal(warnings().length, 1)
  await stub.until(() => stub.watches.size === 1, 'the watch')
  stub.put(PODS, pod('a'))
  await until(() => told.length === 1, 'the watch to tell')
  stub.fail('GET', /watch=true/, 3, 403, 'Forbidden')
  stub.endWatches(PODS)
  await until(() => failures.filter(({ kind }) => kind === 'forbidden').length === 8, 'three more')
  const granted = (): number => logged.filter((line) => line.includes('lets us watch again')).length
  await until(() => granted() === 2, 'it to be told of that, too, each time')
  const forbidden = warnings().filter((line) => line.includes('"kind":"forbidden"'))
  t.equal(forbidden.length, 2, 'a refusal after it was allowed is news')
})

void t.test('a broken watch goes on where it was', async (t) => {
  const { stub, told, failures, watch } = await setUp(t)
  await watch().synced
  for (const how of ['cut', 'end'] as const) {
    await stub.until(() => stub.watches.size === 1, 'the watch')
    stub.endWatches(PODS, how)
    stub.put(PODS, pod(`during-${how}`))
  }
  await until(() => told.length === 2, 'what happened meanwhile')
  t.same(told, ['+during-cut', '+during-end'])
  t.same(
    failures.map(({ kind }) => kind),
    ['unavailable'],
    'an orderly end is no failure',
  )
  const lists = stub.requests.filter(({ url }) => !url.searchParams.has('watch'))
  t.equal(lists.length, 1, 'no second list')
})

void t.test(
  '410 Gone, as a status: lists anew and tells what was missed, deletions too',
  async (t) => {
    const { stub, told, watch, failures, logged } = await setUp(t)
    for (const name of ['stays', 'changes', 'goes', 'is-replaced']) stub.put(PODS, pod(name))
    await watch().synced
    await stub.until(() => stub.watches.size === 1, 'the watch')
    told.length = 0
    stub.unheard(() => {
      stub.put(PODS, pod('changes', { v: '2' }))
      stub.remove(PODS, 'shop/goes')
      stub.remove(PODS, 'shop/is-replaced')
      stub.put(PODS, pod('is-replaced', { v: '2' }))
      stub.put(PODS, pod('comes'))
    })
    stub.fail('GET', /watch=true/, 1, 410, 'Expired')
    stub.endWatches(PODS)
    await until(() => told.length === 5, 'five things told')
    t.same([...told].sort(), [
      '+comes',
      '+is-replaced2',
      '-goes',
      '-is-replaced',
      'changes>changes2',
    ])
    t.ok(told.indexOf('-is-replaced') < told.indexOf('+is-replaced2'))
    t.ok(failures.some(({ kind }) => kind === 'gone'))
    t.ok(logged.some((line) => line.includes('watch pods')))
  },
)

void t.test('410 Gone, as an event in the stream', async (t) => {
  const { stub, told, watch, failures } = await setUp(t)
  stub.put(PODS, pod('goes'))
  await watch().synced
  await stub.until(() => stub.watches.size === 1, 'the watch')
  stub.unheard(() => stub.remove(PODS, 'shop/goes'))
  stub.compact()
  stub.endWatches(PODS)
  await until(() => told.includes('-goes'), 'the deletion')
  t.ok(failures.some(({ kind }) => kind === 'gone'))
})

void t.test('a quiet watch keeps its place by bookmarks', async (t) => {
  const { stub, watch, failures } = await setUp(t)
  await watch().synced
  await stub.until(() => stub.watches.size === 1, 'the watch')
  stub.compact()
  stub.bookmark(PODS)
  stub.endWatches(PODS, 'end')
  await stub.until(() => stub.watches.size === 1, 'the next watch')
  t.same(failures, [], 'not too old')
  const last = stub.requests.at(-1)
  t.equal(last?.url.searchParams.get('allowWatchBookmarks'), 'true')
})

void t.test('half a line of JSON loses nothing', async (t) => {
  const { stub, told, watch, failures } = await setUp(t)
  await watch().synced
  await stub.until(() => stub.watches.size === 1, 'the watch')
  stub.writeToWatches(PODS, '{"type":"ADDED","object":{"metadata":{"na')
  await stub.until(() => stub.watches.size === 1, 'the watch')
  stub.endWatches(PODS, 'end')
  stub.put(PODS, pod('whole'))
  await until(() => told.length === 1, 'the pod')
  t.same(told, ['+whole'])
  t.match(failures, [{ kind: 'unavailable', message: /ended within an event/ }])
})

void t.test('a line that is no event lists anew, and is said', async (t) => {
  const { stub, told, watch, failures } = await setUp(t)
  await watch().synced
  for (const line of ['garbage', '[]', '{"type":"ODD","object":{}}', '{"type":"ADDED"}']) {
    await stub.until(() => stub.watches.size === 1, 'the watch')
    const count = failures.length
    stub.writeToWatches(PODS, `${line}\n`)
    await until(() => failures.length > count, 'the failure')
    await stub.until(() => stub.watches.size === 0, 'the end of that watch')
  }
  t.equal(failures.filter(({ message }) => /a watch event/.test(message)).length, 4)
  await stub.until(() => stub.watches.size === 1, 'the watch')
  stub.put(PODS, pod('after'))
  await until(() => told.includes('+after'), 'the pod')
})

void t.test('characters cut in two by packets arrive whole', async (t) => {
  const { stub, watch } = await setUp(t)
  const pods = watch()
  await pods.synced
  await stub.until(() => stub.watches.size === 1, 'the watch')
  const object = { ...pod('umlaut', { v: 'ü€😀' }), kind: 'Pod' }
  const line = Buffer.from(`${JSON.stringify({ type: 'ADDED', object })}\n`)
  for (const byte of line) stub.writeToWatches(PODS, Buffer.from([byte]))
  await until(() => pods.size === 1, 'the pod')
  t.equal(pods.get('shop/umlaut')?.metadata?.labels?.v, 'ü€😀')
})

void t.test('an API server that is away is tried again until it is back', async (t) => {
  const { stub, watch, failures, told } = await setUp(t)
  const { port } = stub
  await stub.stop()
  const pods = watch()
  await until(() => failures.length >= 3, 'failures')
  t.notOk(pods.isSynced)
  t.ok(failures.every(({ kind }) => kind === 'unavailable'))
  stub.put(PODS, pod('there'))
  await stub.start(port)
  await pods.synced
  t.same(told, ['+there'])
  await stub.stop()
  stub.put(PODS, pod('later'))
  await stub.start(port)
  await until(() => told.includes('+later'), 'the other pod')
})

void t.test('refusals and overload are reported and tried again', async (t) => {
  const { stub, watch, failures } = await setUp(t)
  stub.fail('GET', /pods/, 1, 403, 'Forbidden')
  stub.fail('GET', /pods/, 1, (_, response) => {
    response.writeHead(429, { 'retry-after': '0', connection: 'close' })
    response.end('slow down')
  })
  // A new connection: on a kept one it would be asked again at once.
  stub.fail('GET', /pods/, 1, (_, response) => response.destroy())
  stub.fail('GET', /pods/, 1, (_, response) => response.end('{"items":[{'))
  await watch().synced
  t.same(
    failures.map(({ kind }) => kind),
    ['forbidden', 'throttled', 'unavailable', 'unavailable'],
  )
})

void t.test('selectors reach the server, and what leaves the selection is deleted', async (t) => {
  const { stub, watch, told } = await setUp(t)
  stub.put(PODS, pod('mine', { app: 'web' }))
  stub.put(PODS, {
    ...pod('theirs', { app: 'web' }),
    spec: { containers: [{ name: 'app', image: 'app' }], nodeName: 'node-b' },
  })
  const pods = watch({ labelSelector: 'app=web', fieldSelector: 'spec.nodeName=node-a' })
  await pods.synced
  await stub.until(() => stub.watches.size === 1, 'the watch')
  t.same(told, ['+mine'])
  stub.put(PODS, pod('mine', { app: 'other' }))
  await until(() => told.includes('-mine'), 'the deletion')
  t.equal(pods.size, 0)
})

void t.test('a handler that throws is logged and does not end the watch', async (t) => {
  const { stub, watch, told, logged } = await setUp(t)
  stub.put(PODS, pod('a'))
  const pods = watch({
    added: (object) => {
      if (object.metadata?.name === 'a') throw new Error('a bug in a handler')
      told.push('+later')
    },
  })
  await pods.synced
  stub.put(PODS, pod('b'))
  await until(() => told.length === 1, 'the next pod')
  t.ok(logged.some((line) => line.includes('a bug in a handler')))
})

void t.test('closing ends everything, also before the first list', async (t) => {
  const { stub, watch, told } = await setUp(t)
  const open = watch()
  await open.synced
  await stub.until(() => stub.watches.size === 1, 'the watch')
  await open.close()
  await stub.until(() => stub.watches.size === 0, 'the end of the watch')
  stub.put(PODS, pod('unseen'))
  t.same(told, [])
  stub.fail('GET', /pods/, Infinity, 503)
  const never = watch()
  await stub.until(() => stub.requests.length > 3, 'an attempt')
  const aborted = new AbortController()
  const also = watch({ signal: aborted.signal })
  aborted.abort()
  await never.close()
  await t.rejects(never.synced, /closed before its first list/)
  await t.rejects(also.synced, /closed before its first list/)
})

void t.test(
  'keeps and tells what its owner takes of an object, and lets the rest go',
  async (t) => {
    const { stub } = await setUp(t)
    const told: string[] = []
    const taken: string[] = []
    const watch = watchResource(createKubeApi(stub.access()), PODS, {
      logger: pino({ level: 'silent' }),
      backoff: { firstMs: 5, longestMs: 20 },
      keep: (object) => {
        taken.push(objectKey(object))
        return { name: object.metadata?.name, version: object.metadata?.labels?.v ?? '1' }
      },
      added: ({ name, version }) => void told.push(`+${name}${version}`),
      updated: (previous, { name, version }) =>
        void told.push(`${name}${previous.version}>${version}`),
      deleted: ({ name, version }) => void told.push(`-${name}${version}`),
    })
    t.teardown(() => watch.close())
    stub.put(PODS, pod('a'))
    stub.put(PODS, pod('b'))
    await watch.synced
    const kept = watch.get('shop/a')
    t.same(kept, { name: 'a', version: '1' }, 'nothing else of the object')
    await stub.until(() => stub.watches.size === 1, 'the watch')
    stub.put(PODS, pod('b', { v: '2' }))
    await until(() => told.length === 3, 'the change')
    stub.unheard(() => {
      stub.remove(PODS, 'shop/b')
      stub.put(PODS, pod('b', { v: '3' }))
      stub.put(PODS, pod('c'))
    })
    stub.compact()
    stub.endWatches(PODS)
    await until(() => told.length === 6, 'what a relist finds')
    t.same(told, ['+a1', '+b1', 'b1>2', '-b2', '+b3', '+c1'])
    t.equal(watch.get('shop/a'), kept, 'what was told of an unchanged object stays the same')
    t.same([...watch.values()].map(({ name }) => name).sort(), ['a', 'b', 'c'])
    t.equal(watch.size, 3)
    t.ok(taken.includes('shop/c'))
  },
)

void t.test('an object that cannot be read stays as it was known; the others go on', async (t) => {
  const { stub, logged } = await setUp(t)
  const told: string[] = []
  const watch = watchResource(createKubeApi(stub.access()), PODS, {
    logger: pino({ level: 'trace' }, { write: (line: string) => void logged.push(line) }),
    keep: ({ metadata }) => {
      if (metadata?.labels?.v === 'bad') throw new Error('a bug in the reading')
      return metadata?.name ?? ''
    },
    added: (name) => void told.push(`+${name}`),
    deleted: (name) => void told.push(`-${name}`),
  })
  t.teardown(() => watch.close())
  stub.put(PODS, pod('never', { v: 'bad' }))
  stub.put(PODS, pod('a'))
  await watch.synced
  t.same(told, ['+a'])
  await stub.until(() => stub.watches.size === 1, 'the watch')
  stub.put(PODS, pod('a', { v: 'bad' }))
  stub.put(PODS, pod('b'))
  await until(() => told.length === 2, 'the next pod')
  t.equal(watch.get('shop/a'), 'a')
  stub.remove(PODS, 'shop/a')
  await until(() => told.length === 3, 'the deletion')
  t.same(told, ['+a', '+b', '-a'])
  t.equal(logged.filter((line) => line.includes('a bug in the reading')).length, 3)
})

void t.test('a kind that the server does not have is a list of nothing, said once', async (t) => {
  const { stub, told, failures, logged, watch } = await setUp(t)
  stub.put(PODS, pod('a'))
  const lackKind = (times: number): void => {
    stub.fail('GET', /pods/, times, 404, 'NotFound')
    stub.fail('GET', /^\/api\/v1$/, 1, (_, response) => {
      response.setHeader('content-type', 'application/json')
      response.end('{"kind":"APIResourceList","resources":[{"name":"nodes"}]}')
    })
  }
  lackKind(2)
  const pods = watch({ isOptional: true, absentRetryMs: 5 })
  await pods.synced
  t.same([told, pods.size], [[], 0])
  await until(() => told.length === 1, 'the kind')
  t.same([told, failures], [['+a'], []], 'no failure: it may never come')
  const lines = logged.map((line) => (JSON.parse(line) as { msg: string }).msg)
  t.same(lines, ['the server does not have the kind', 'the server has the kind now'])

  // Objects go before their kind, and each is told of: what was there when it seemed to go is held.
  await stub.until(() => stub.watches.size === 1, 'the watch')
  lackKind(3)
  stub.put(PODS, pod('b'))
  await until(() => told.length === 2, 'another')
  stub.endWatches(PODS, 'cut')
  await stub.until(() => stub.watches.size === 1, 'the watch again')
  stub.remove(PODS, 'shop/a')
  await until(() => told.length === 3, 'the end of one')
  t.same(told, ['+a', '+b', '-a'])
})

void t.test('an answer that is no list is a failure, and takes nothing away', async (t) => {
  const { stub, told, failures, watch } = await setUp(t)
  stub.put(PODS, pod('stays'))
  await watch().synced
  await stub.until(() => stub.watches.size === 1, 'the watch')
  const nonsense = [
    'null',
    '[]',
    '"ok"',
    '{}',
    '{"kind":"Status","status":"Success"}',
    '{"kind":"PodList","items":{},"metadata":{"resourceVersion":"7"}}',
    '{"kind":"PodList","items":[null],"metadata":{"resourceVersion":"7"}}',
    '{"kind":"PodList","items":[]}',
  ]
  for (const body of nonsense)
    stub.fail('GET', /pods\?limit=/, 1, (_, response) => {
      response.setHeader('content-type', 'application/json')
      response.end(body)
    })
  stub.fail('GET', /watch=true/, 1, 410, 'Expired')
  stub.endWatches(PODS)
  await stub.until(() => stub.watches.size === 1, 'the watch')
  stub.put(PODS, pod('after'))
  await until(() => told.includes('+after'), 'the pod')
  t.same(told, ['+stays', '+after'], 'nothing was deleted')
  const answers = failures.filter(({ message }) =>
    /Cannot list pods: the (?:answer|list)/.test(message),
  )
  t.equal(answers.length, nonsense.length)
})

void t.test('a server that went back to a backup is listed anew', async (t) => {
  const { stub, told, logged, watch } = await setUp(t)
  const open = new Set<ServerResponse>()
  /** A server at a version, whose watches tell nothing by themselves. */
  const serve = (version: number, v: string): void => {
    stub.heal()
    const { metadata } = pod('web', { v })
    const items = [{ metadata: { ...metadata, uid: 'one', resourceVersion: '40' } }]
    const list = { kind: 'PodList', metadata: { resourceVersion: String(version) }, items }
    stub.fail('GET', /pods\?.*limit=/, Infinity, (_, response) => {
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify(list))
    })
    stub.fail('GET', /watch=true/, Infinity, (_, response) => {
      response.flushHeaders()
      open.add(response)
      response.once('close', () => open.delete(response))
    })
  }
  const watched = (): Promise<void> => until(() => open.size === 1, 'the watch')

  serve(1000, '1')
  // Half of nothing: each watch is long enough to have told something.
  await watch({ watchTimeoutSeconds: 0, fieldSelector: 'spec.nodeName=node-a' }).synced
  await watched()
  serve(999, '2')
  for (const response of open) response.end()
  await until(() => told.length > 1, 'what the server has now')
  t.same(
    told,
    ['+web1', 'web1>web2'],
    'after a watch that told nothing, though the version is the same',
  )

  await watched()
  const { port } = stub
  await stub.stop()
  await until(() => open.size === 0, 'the end of the watch')
  serve(90, '3')
  await stub.start(port)
  await until(() => told.length > 2, 'what the server has now')
  t.equal(told.at(-1), 'web2>web3', 'after it was away')

  await watched()
  serve(50, '4')
  const object = { kind: 'Pod', metadata: { resourceVersion: '50' } }
  for (const response of open) response.write(`${JSON.stringify({ type: 'BOOKMARK', object })}\n`)
  await until(() => told.length > 3, 'what the server has now')
  t.equal(told.at(-1), 'web3>web4', 'after a watch that tells of an earlier version')
  t.equal(logged.filter((line) => line.includes('gone back to an earlier state')).length, 3)
  const asked = stub.requests.filter(({ url }) => url.searchParams.get('limit') === '1')
  t.ok(asked.length >= 2)
  t.ok(
    asked.every(({ url }) => !url.searchParams.has('fieldSelector')),
    'one of all: of a selection it would have to be looked for',
  )
})

void t.test('a server that asks for a day of patience gets a minute', (t) => {
  const asked = (after: string): number | undefined =>
    failureOfStatus('list pods', 429, '', after).retryAfterMs
  t.equal(asked('2'), 2_000)
  t.equal(asked('86400'), 60_000)
  t.equal(asked('1e300'), 60_000)
  for (const odd of ['-1', 'soon', 'Wed, 21 Oct 2026 07:28:00 GMT']) t.equal(asked(odd), undefined)
  t.end()
})

void t.test(
  'a 404 of something in the place of the server is not that it lacks a kind',
  async (t) => {
    const { stub, told, failures, watch } = await setUp(t)
    stub.put(PODS, pod('a'))
    const page = (_: unknown, response: ServerResponse): void => {
      response.writeHead(404, { 'content-type': 'text/plain' })
      response.end('404 page not found')
    }
    for (const path of [/pods/, /^\/apis$/]) stub.fail('GET', path, 2, page)
    stub.fail('GET', /pods/, 1, page)
    stub.fail('GET', /^\/apis$/, 1, (_, response) => {
      response.setHeader('content-type', 'application/json')
      response.end('{}')
    })
    // And one that comes between two answers of the server's own.
    stub.fail('GET', /pods/, 1, page)
    const pods = watch({ isOptional: true })
    await pods.synced
    t.same(told, ['+a'], 'it has never been a list of nothing')
    t.same(
      failures.map(({ kind }) => kind),
      ['unavailable', 'unavailable', 'unavailable', 'unavailable'],
    )
    t.match(failures[2]?.message, /no API server/)
    t.match(failures[3]?.message, /though it has the kind/)
  },
)
