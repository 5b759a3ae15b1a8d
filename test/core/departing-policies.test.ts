// SPDX-License-Identifier: Apache-2.0
// A policy that goes with its namespace holds until the namespace has gone; one that is deleted by itself goes at once.

import { pino } from 'pino'
import t, { type Test } from 'tap'
import { objectKey } from '../../controller/core/origin.ts'
import { type ClosingKind, DepartingPolicies } from '../../controller/sources/departing-policies.ts'
import { createKubeApi, NAMESPACES } from '../../mesh/kube/index.ts'
import { FaultyApi } from '../support/faulty-api.ts'
import { until } from '../support/until.ts'

const SHOP = 'shop'
const key = (name: string) => objectKey('Kubernetes', SHOP, name)

interface Setting {
  readonly kube: FaultyApi
  readonly departing: DepartingPolicies
  readonly removed: string[]
  readonly logged: string[]
  /** The namespace is there, or is being deleted. */
  namespace(isEnding?: boolean): void
  deleted(name: string, kind?: ClosingKind): void
  namespaceGone(): void
}

async function setUp(t: Test): Promise<Setting> {
  const kube = new FaultyApi()
  await kube.start()
  t.teardown(() => kube.stop())
  const removed: string[] = []
  const logged: string[] = []
  let isKnown = true
  const departing = new DepartingPolicies({
    api: createKubeApi(kube.access()),
    isKnown: () => isKnown,
    remove: (kind, key) => void removed.push(`${kind} ${key}`),
    logger: pino({}, { write: (line: string) => void logged.push(line) }),
  })
  t.teardown(() => departing.close())
  return {
    kube,
    departing,
    removed,
    logged,
    namespace: (isEnding = false) =>
      kube.put(NAMESPACES, {
        metadata: {
          name: SHOP,
          uid: 'n',
          ...(isEnding && { deletionTimestamp: '2026-01-01T00:00:00Z' }),
        },
      }),
    deleted: (name, kind = 'AuthorizationPolicy') => departing.deleted(kind, key(name)),
    namespaceGone: () => {
      isKnown = false
      departing.namespaceGone(SHOP)
    },
  }
}

/** How many policies are said to hold for now. */
const kept = (logged: readonly string[]): number =>
  logged
    .filter((line) => line.includes('its policies hold until it is gone'))
    .reduce((sum, line) => sum + (JSON.parse(line) as { readonly policies: number }).policies, 0)

void t.test('one of a namespace that stays goes at once', async (t) => {
  const { removed, namespace, deleted } = await setUp(t)
  namespace()
  deleted('a')
  deleted('b', 'PeerAuthentication')
  await until(() => removed.length === 2, 'both to go')
  t.strictSame(removed, [`AuthorizationPolicy ${key('a')}`, `PeerAuthentication ${key('b')}`])
})

void t.test('one of a namespace that is being deleted goes with it', async (t) => {
  const { removed, logged, namespace, deleted, namespaceGone } = await setUp(t)
  namespace(true)
  deleted('a')
  deleted('b', 'NetworkPolicy')
  await until(() => kept(logged) === 2, 'the answer')
  deleted('c')
  await until(() => kept(logged) === 3, 'the other answer')
  t.strictSame(removed, [])
  namespaceGone()
  t.strictSame(removed.toSorted(), [
    `AuthorizationPolicy ${key('a')}`,
    `AuthorizationPolicy ${key('c')}`,
    `NetworkPolicy ${key('b')}`,
  ])
})

void t.test('where nobody can say it holds, and is asked for again', async (t) => {
  const { kube, removed, logged, namespace, deleted } = await setUp(t)
  namespace()
  kube.fail('GET', /namespaces/, 2, 500)
  deleted('a')
  await until(() => removed.length === 1, 'it to go')
  t.match(logged.join(''), /a policy that was deleted in it still holds/)
})

void t.test('one that is made again is there', async (t) => {
  const { departing, removed, logged, namespace, deleted, namespaceGone } = await setUp(t)
  namespace()
  deleted('a')
  departing.isThere('AuthorizationPolicy', key('a'))
  deleted('b')
  await until(() => removed.length > 0, 'the other to go')
  t.strictSame(removed, [`AuthorizationPolicy ${key('b')}`], 'before it was known why it went')
  namespace(true)
  deleted('a')
  await until(() => kept(logged) === 1, 'the answer')
  departing.isThere('AuthorizationPolicy', key('a'))
  namespaceGone()
  t.equal(removed.length, 1, 'and after that')
})

void t.test('one of a namespace that is gone before the answer goes with the answer', async (t) => {
  const { removed, namespace, deleted, namespaceGone } = await setUp(t)
  namespace(true)
  deleted('a')
  namespaceGone()
  await until(() => removed.length === 1, 'it to go')
  t.strictSame(removed, [`AuthorizationPolicy ${key('a')}`])
})

void t.test('nor does it hold in the next namespace of that name', async (t) => {
  const { departing, removed, logged, namespace, deleted } = await setUp(t)
  namespace(true)
  deleted('a')
  // While it is asked; the watch has the next one at once.
  departing.namespaceGone(SHOP)
  await until(() => removed.length === 1, 'it to go')
  t.equal(kept(logged), 0)
})
