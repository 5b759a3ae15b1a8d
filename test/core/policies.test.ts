// SPDX-License-Identifier: Apache-2.0
// Which policies a workload names, however objects come and go; and what ten thousand of them cost.

import fc from 'fast-check'
import t from 'tap'
import { kubePod, running, startTranslator } from './objects.ts'

type Labels = Record<string, string>

const kubePolicy = (name: string, spec: object, namespace = 'shop') => ({
  metadata: { name, namespace },
  spec,
})
const selecting = (matchLabels: Labels, rules: readonly object[] = []) => ({
  selector: { matchLabels },
  rules,
})

void t.test('a workload names what selects it, in its namespace and in the root', async (t) => {
  const { translator, state, pod, batches } = startTranslator()
  const put = (name: string, spec: object, namespace?: string) =>
    translator.upsert('AuthorizationPolicy', kubePolicy(name, spec, namespace))
  translator.upsert('Pod', kubePod('web', { labels: { app: 'web', version: 'v1' } }))
  put('z-app', selecting({ app: 'web' }))
  put('both', selecting({ version: 'v1', app: 'web' }))
  put('other-version', selecting({ version: 'v2', app: 'web' }))
  put('other-label', selecting({ app: 'web', tier: 'x' }))
  put('elsewhere', selecting({ app: 'web' }), 'bank')
  put('root', selecting({ app: 'web' }), 'istio-system')
  put('namespace-wide', { rules: [{}] })
  put('mesh-wide', { rules: [{}] }, 'istio-system')
  translator.complete()
  const named = () => pod('web')?.authorizationPolicies
  t.strictSame(named(), ['istio-system/root', 'shop/both', 'shop/z-app'])
  t.equal(state.policies.size, 8, 'all are sent: another node may have their workloads')

  batches.length = 0
  put('namespace-wide', { action: 'DENY' })
  t.strictSame(
    batches.flat().map(({ kind }) => kind),
    ['policy'],
    'no workload changes',
  )
  put('other-version', selecting({ version: 'v1' }))
  t.strictSame(named(), ['istio-system/root', 'shop/both', 'shop/other-version', 'shop/z-app'])
  translator.upsert('Pod', kubePod('web', { labels: { app: 'web' } }))
  t.strictSame(named(), ['istio-system/root', 'shop/z-app'], 'a relabelled pod')
  translator.delete('AuthorizationPolicy', 'shop', 'z-app')
  put('root', { targetRefs: [{ kind: 'Service', name: 'web' }] }, 'istio-system')
  t.strictSame(named(), [])
  t.equal(state.policies.size, 6)
})

void t.test('in whatever order things come, a workload names exactly what selects it', async () => {
  const labels = fc.dictionary(fc.constantFrom('app', 'tier', 'v'), fc.constantFrom('1', '2'))
  const step = fc.oneof(
    fc.record({ kind: fc.constant('pod' as const), name: fc.constantFrom('p', 'q'), labels }),
    fc.record({
      kind: fc.constant('policy' as const),
      name: fc.constantFrom('a', 'b', 'c', 'd'),
      namespace: fc.constantFrom('shop', 'istio-system', 'bank'),
      labels,
    }),
    fc.record({ kind: fc.constant('gone' as const), name: fc.constantFrom('a', 'b', 'c') }),
    fc.record({ kind: fc.constant('namespace' as const) }),
    fc.record({ kind: fc.constant('namespaceGone' as const) }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const { translator, pod } = startTranslator()
      translator.complete()
      const pods = new Map<string, Labels>()
      const policies = new Map<string, { namespace: string; labels: Labels }>()
      for (const each of steps) {
        if (each.kind === 'namespace')
          translator.upsert('Namespace', { metadata: { name: 'shop' } })
        else if (each.kind === 'namespaceGone') translator.delete('Namespace', '', 'shop')
        else if (each.kind === 'pod') {
          translator.upsert('Pod', kubePod(each.name, { labels: each.labels }))
          pods.set(each.name, each.labels)
        } else if (each.kind === 'policy') {
          const { name, namespace } = each
          translator.upsert(
            'AuthorizationPolicy',
            kubePolicy(name, selecting(each.labels), namespace),
          )
          policies.set(`${namespace}/${name}`, each)
        } else if (each.kind === 'gone') {
          translator.delete('AuthorizationPolicy', 'shop', each.name)
          policies.delete(`shop/${each.name}`)
        }
      }
      for (const [name, has] of pods) {
        const expected = [...policies]
          .filter(([, { namespace }]) => namespace !== 'bank')
          .filter(([, { labels: asked }]) => Object.keys(asked).length > 0)
          .filter(([, { labels: asked }]) => Object.entries(asked).every(([k, v]) => has[k] === v))
          .map(([key]) => key)
          .toSorted()
        if (JSON.stringify(pod(name)?.authorizationPolicies) !== JSON.stringify(expected))
          return false
      }
      return true
    }),
    { numRuns: 300 },
  )
})

void t.test(
  'ten thousand policies and pods cost no more than what a change concerns',
  async (t) => {
    const COUNT = 10_000
    const { translator, state, batches } = startTranslator()
    const rule = (index: number) => ({
      from: [{ source: { principals: [`cluster.local/ns/shop/sa/caller-${index}`] } }],
      to: [{ operation: { ports: [String(8000 + (index % 100))] } }],
    })
    const rules = Array.from({ length: 10 }, (_, index) => rule(index))
    const policy = (index: number, app = index) =>
      kubePolicy(
        `p-${index}`,
        selecting({ 'app.kubernetes.io/managed-by': 'helm', app: `app-${app}` }, rules),
      )
    for (let index = 0; index < COUNT; index += 1) {
      const labels = { 'app.kubernetes.io/managed-by': 'helm', app: `app-${index}` }
      const status = running(`10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`)
      translator.upsert('Pod', kubePod(`pod-${index}`, { labels, status }))
      translator.upsert('AuthorizationPolicy', policy(index))
    }
    const began = performance.now()
    translator.complete()
    const first = performance.now() - began
    t.equal(state.policies.size, COUNT)
    const changes = 1_000
    batches.length = 0
    const changed = performance.now()
    for (let index = 0; index < changes; index += 1)
      translator.upsert('AuthorizationPolicy', policy(index, index + 1))
    const each = (performance.now() - changed) / changes
    t.equal(batches.length, changes)
    t.ok(
      batches.every((batch) => batch.length === 2),
      'the workload that lost it and the one that got it',
    )
    t.comment(`complete in ${first.toFixed(0)} ms, a change in ${each.toFixed(3)} ms`)
    // Far above what it takes, far below what looking at every policy for every pod does.
    t.ok(first < 20_000, `${first} ms`)
    t.ok(each < 20, `${each} ms`)
  },
)
