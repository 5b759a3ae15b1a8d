// SPDX-License-Identifier: Apache-2.0
// Whom a policy concerns, also when nobody can read it.

import t from 'tap'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import { WHOLE_MESH } from '../../mesh/model/policy-index.ts'
import { POLICY, type Policy, type PolicyKey, type PolicyScope } from '../../mesh/model/policy.ts'
import type { MeshChange } from '../../mesh/model/types.ts'

function policy(key: string, scope: PolicyScope): Policy {
  const [namespace = '', name = ''] = key.split('/')
  return { ...POLICY.zero, key: key as PolicyKey, namespace, name, scope }
}

const set = (key: string, scope: PolicyScope): MeshChange => ({
  kind: 'policy',
  policy: policy(key, scope),
})
const unreadable = (key: string, scope?: PolicyScope): MeshChange => ({
  kind: 'policyUnreadable',
  policy: { key: key as PolicyKey, reason: 'rules: no', scope },
})
const removed = (key: string): MeshChange => ({ kind: 'policyRemoved', key: key as PolicyKey })

const widely = ({ policies }: MeshState): Record<string, readonly string[]> =>
  Object.fromEntries(
    [WHOLE_MESH, 'shop', 'istio-system', 'other'].flatMap((place) =>
      policies.wide(place).length === 0 ? [] : [[place, policies.wide(place)]],
    ),
  )

void t.test('a policy concerns those of its scope, and moves with it', (t) => {
  const mesh = new MeshState()
  mesh.apply([set('shop/a', 'workload'), set('shop/b', 'namespace'), set('root/c', 'mesh')])
  t.strictSame(widely(mesh), { [WHOLE_MESH]: ['root/c'], shop: ['shop/b'] })
  mesh.apply([set('shop/b', 'workload'), set('shop/a', 'namespace'), removed('root/c')])
  t.strictSame(widely(mesh), { shop: ['shop/a'] })
  t.equal(mesh.policies.size, 2)
  t.end()
})

void t.test('one that nobody can read concerns whom it did, and else as many as it may', (t) => {
  for (const [known, key, concerned] of [
    ['workload', 'shop/a', {}],
    ['namespace', 'shop/a', { shop: ['shop/a'] }],
    ['mesh', 'istio-system/a', { [WHOLE_MESH]: ['istio-system/a'] }],
    ['workload', 'istio-system/a', {}],
    [undefined, 'shop/a', { shop: ['shop/a'] }],
    [undefined, 'istio-system/a', { [WHOLE_MESH]: ['istio-system/a'] }],
    [undefined, 'of-no-namespace', { [WHOLE_MESH]: ['of-no-namespace'] }],
  ] as const) {
    const mesh = new MeshState()
    if (known !== undefined) mesh.apply([set(key, known)])
    for (let times = 0; times < 2; times += 1) {
      mesh.apply([unreadable(key)])
      t.strictSame(widely(mesh), concerned, `${key} of ${known}`)
    }
    t.equal(mesh.policies.get(key as PolicyKey), undefined, 'what it said is no more')
    t.match(mesh.policies.unreadable(key as PolicyKey), { reason: 'rules: no' })
    const copy = new MeshState()
    copy.apply(mesh.snapshot())
    t.strictSame(widely(copy), concerned, 'a new worker is told the same')
    mesh.apply([removed(key)])
    t.strictSame(widely(mesh), {})
    t.equal(mesh.policies.unreadable(key as PolicyKey), undefined)
  }
  t.end()
})

void t.test('what can be read again is as it says; another root namespace counts', (t) => {
  const mesh = new MeshState({ rootNamespace: 'root' })
  mesh.apply([unreadable('root/a'), unreadable('istio-system/a')])
  t.strictSame(widely(mesh), { [WHOLE_MESH]: ['root/a'], 'istio-system': ['istio-system/a'] })
  mesh.apply([set('root/a', 'namespace')])
  t.strictSame(widely(mesh), { 'istio-system': ['istio-system/a'] })
  t.strictSame([...mesh.policies.allUnreadable()].length, 1)
  t.end()
})

void t.test('what is known of policies goes with the snapshot', (t) => {
  const mesh = new MeshState()
  t.equal(mesh.policies.knowledge, 'unknown')
  t.strictSame(mesh.snapshot(), [])
  mesh.apply([{ kind: 'policyKnowledge', is: 'held' }])
  const copy = new MeshState()
  copy.apply(mesh.snapshot())
  t.equal(copy.policies.knowledge, 'held')
  t.end()
})
