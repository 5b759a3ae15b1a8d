// SPDX-License-Identifier: Apache-2.0
// The reflector against an API server that breaks in every way one does.

import t, { type Test } from 'tap'
import { pino } from 'pino'
import {
  createKubeApi,
  PODS,
  watchResource,
  type KubeFailure,
  type Pod,
  type ResourceWatch,
  type WatchOptions,
} from '../../mesh/kube/index.ts'
import { ApiStub } from './api-stub.ts'

const pod = (name: string, labels: Record<string, string> = {}): Pod => ({
  metadata: { namespace: 'shop', name, labels },
  spec: { containers: [], nodeName: 'node-a' },
})

interface Setting {
  readonly stub: ApiStub
  readonly told: string[]
  readonly failures: KubeFailure[]
  readonly logged: string[]
  watch(options?: Partial<WatchOptions<Pod>>): ResourceWatch<Pod>
}

async function setUp(test: Test): Promise<Setting> {
  const stub = new ApiStub()
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

/** Waits until the handlers told `count` things. */
async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 5000
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`)
    await new Promise((resolve) => setImmediate(resolve))
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
  t.same([...pods.objects.keys()], ['shop/a'])
  t.equal(pods.get('shop/a')?.kind, 'Pod')
})
