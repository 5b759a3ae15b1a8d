// SPDX-License-Identifier: Apache-2.0
// Whatever order policies and workloads arrive in, and however they change: a pod is never more open than what has been told of it, by a
// plain model that knows nothing of layers, caches or waits.

import fc from 'fast-check'
import t from 'tap'
import type { InboundCall } from '../../agent/proxy/admission.ts'
import { decodeHeld, encodeHeld } from '../../agent/policy-store/held-file.ts'
import { changesOfHeld, heldStateOf } from '../../agent/policy-store/held-state.ts'
import { LastWords } from '../../agent/policy-store/last-words.ts'
import { PoliciesOfPods } from '../../agent/proxy/decision/pod-policies.ts'
import { POLICY_WAIT_MS, policyRefusal } from '../../agent/proxy/decision/policy-judge.ts'
import type { LocalPod } from '../../agent/proxy/local-pod.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { Policy, PolicyScope } from '../../mesh/model/policy.ts'
import type { IpAddress, MeshChange } from '../../mesh/model/types.ts'
import { newAddress, testPod } from './loopback-world.ts'
import {
  EVERYBODY,
  from,
  garbled,
  gone,
  KNOWN,
  naming,
  policy,
  rule,
  unreadable,
} from './policies.ts'

const ROOT = 'istio-system'
const NODE = 'node-a'
const PODS = [
  testPod('catalog', newAddress()),
  testPod('basket', newAddress()),
  testPod('far', newAddress(), 'elsewhere'),
] as const
const CALLERS = ['frontend', 'enemy', undefined] as const
const KEYS = ['shop/a', 'shop/b', 'elsewhere/c', `${ROOT}/d`] as const

type PodIndex = 0 | 1 | 2

type Step =
  | {
      readonly kind: 'policy'
      readonly key: string
      readonly scope: PolicyScope
      readonly action: Policy['action']
      readonly whom: 'everybody' | 'frontend' | 'nobody'
    }
  | { readonly kind: 'gone' | 'unreadable'; readonly key: string }
  | { readonly kind: 'names'; readonly pod: PodIndex; readonly keys: readonly string[] }
  | { readonly kind: 'dropped' | 'garbled'; readonly pod: PodIndex }
  | { readonly kind: 'known' }

const anyKey = fc.constantFrom(...KEYS)
const anyPod = fc.constantFrom<PodIndex[]>(0, 1, 2)
const anyStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('policy' as const),
      key: anyKey,
      scope: fc.constantFrom<PolicyScope[]>('mesh', 'namespace', 'workload'),
      action: fc.constantFrom<Policy['action'][]>('allow', 'deny'),
      whom: fc.constantFrom('everybody' as const, 'frontend' as const, 'nobody' as const),
    }),
  },
  fc.record({ kind: fc.constantFrom('gone' as const, 'unreadable' as const), key: anyKey }),
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('names' as const),
      pod: anyPod,
      keys: fc.uniqueArray(anyKey, { maxLength: 3 }),
    }),
  },
  fc.record({ kind: fc.constantFrom('dropped' as const, 'garbled' as const), pod: anyPod }),
  fc.constant({ kind: 'known' as const }),
)

function changeOf(step: Step): MeshChange {
  switch (step.kind) {
    case 'policy': {
      const { key, scope, action, whom } = step
      const rules =
        whom === 'everybody' ? [EVERYBODY] : whom === 'frontend' ? [rule(from('frontend'))] : []
      return policy(key, { scope, action, rules })
    }
    case 'gone':
      return gone(step.key)
    case 'unreadable':
      return unreadable(step.key)
    case 'names':
      return naming(PODS[step.pod], step.keys)
    case 'dropped':
      return { kind: 'workloadRemoved', uid: PODS[step.pod].workloadUid }
    case 'garbled':
      return garbled(PODS[step.pod])
    case 'known':
      return KNOWN
  }
}

/** What has been told, and nothing else. */
class Model {
  isKnown = false
  readonly policies = new Map<string, Extract<Step, { readonly kind: 'policy' }>>()
  /** With the scope it had, where it had one. */
  readonly unreadable = new Map<string, PolicyScope | undefined>()
  readonly named = new Map<PodIndex, readonly string[]>()
  /** Whose policies nobody can read. */
  readonly garbled = new Set<PodIndex>()

  tell(step: Step): void {
    switch (step.kind) {
      case 'policy':
        this.policies.set(step.key, step)
        this.unreadable.delete(step.key)
        return
      case 'gone':
        this.policies.delete(step.key)
        this.unreadable.delete(step.key)
        return
      case 'unreadable':
        this.unreadable.set(
          step.key,
          this.policies.get(step.key)?.scope ?? this.unreadable.get(step.key),
        )
        this.policies.delete(step.key)
        return
      case 'names':
        this.named.set(step.pod, step.keys)
        this.garbled.delete(step.pod)
        return
      case 'garbled':
        this.garbled.add(step.pod)
        return
      case 'dropped':
        return
      case 'known':
        this.isKnown = true
    }
  }

  isOpen(index: PodIndex, caller: string | undefined): boolean {
    const named = this.named.get(index)
    if (!this.isKnown || named === undefined || this.garbled.has(index)) return false
    const { namespace } = PODS[index]
    const concerns = (key: string, scope: PolicyScope): boolean =>
      scope === 'mesh' || (scope === 'namespace' && key.startsWith(`${namespace}/`))
    for (const key of named) if (!this.policies.has(key)) return false
    for (const [key, scope] of this.unreadable)
      if (concerns(key, scope ?? (key.startsWith(`${ROOT}/`) ? 'mesh' : 'namespace'))) return false
    const mine = [...this.policies.values()].filter(
      ({ key, scope }) => named.includes(key) || concerns(key, scope),
    )
    const matches = ({ whom }: (typeof mine)[number]): boolean =>
      whom === 'everybody' || (whom === 'frontend' && caller === 'frontend')
    if (mine.some((each) => each.action === 'deny' && matches(each))) return false
    const allowing = mine.filter(({ action }) => action === 'allow')
    return allowing.length === 0 || allowing.some(matches)
  }
}

function callOf(pod: LocalPod, caller: string | undefined): InboundCall {
  const [address] = pod.addresses as [IpAddress]
  return {
    peer: { address: '10.244.1.2' as IpAddress, port: 40_000 },
    peerIdentity: caller === undefined ? undefined : testPod(caller).identity,
    destination: pod.uid,
    target: { address, port: 8080 },
    via: caller === undefined ? 'plaintext' : 'hbone',
  }
}

await t.test('a pod is open exactly where the model says so', async (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.array(anyStep, { minLength: 1, maxLength: 4 }), { maxLength: 12 }),
      fc.boolean(),
      (batches, asksBetween) => {
        const mesh = new MeshState({ rootNamespace: ROOT })
        const policies = new PoliciesOfPods(mesh)
        for (const pod of PODS) policies.follow(pod)
        const lastWords = new LastWords(NODE, mesh)
        mesh.subscribe((changes) => void lastWords.hear(changes))
        const model = new Model()
        const compare = (asked = policies): void => {
          for (const [index, pod] of PODS.entries())
            for (const caller of CALLERS) {
              const at = (nowMs: number) =>
                policyRefusal(asked.of(pod), callOf(pod, caller), 'refuse', nowMs)
              const isOpen = model.isOpen(index as PodIndex, caller)
              // What waits is not in; and when the wait is over, it is refused.
              if ((at(0) === undefined) !== isOpen || (at(POLICY_WAIT_MS) === undefined) !== isOpen)
                throw new Error(`${pod.name} for ${caller}: the model says ${isOpen}`)
            }
        }
        for (const batch of batches) {
          mesh.apply(batch.map(changeOf))
          for (const step of batch) model.tell(step)
          if (asksBetween) compare()
        }
        compare()
        // A worker that starts now is told the same, also of what discovery has dropped.
        const next = new MeshState({ rootNamespace: ROOT })
        next.apply(mesh.snapshot())
        const late = new PoliciesOfPods(next)
        for (const pod of PODS) late.follow(pod, lastWords.of(pod.workloadUid))
        compare(late)
        // And so is the agent that starts next, by what lies on disk.
        const held = heldStateOf(mesh, lastWords.workloads(), lastWords.unreadable())
        if (!model.isKnown) return
        const read = decodeHeld(NODE, encodeHeld(NODE, held))
        const restarted = new MeshState({ rootNamespace: ROOT })
        restarted.apply(read.ok ? changesOfHeld(read.value) : [])
        compare(new PoliciesOfPods(restarted))
      },
    ),
    { numRuns: 500 },
  )
  t.pass('500 histories')
})
