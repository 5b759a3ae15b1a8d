// SPDX-License-Identifier: Apache-2.0
// What users of other meshes reported, from their YAML through the controller to the verdict of an agent. (That a policy goes by the identity
// which the access line shows is told in test/proxy/policy.test.ts; that nobody is the kubelet by its address, in test/e2e/policy.test.ts.)

import { readFileSync } from 'node:fs'
import t from 'tap'
import { PoliciesOfPods } from '../../agent/proxy/decision/pod-policies.ts'
import { policyRefusal } from '../../agent/proxy/decision/policy-judge.ts'
import { parseYamlDocuments } from '../../mesh/kube/yaml.ts'
import { kubePod, running, startTranslator } from '../core/objects.ts'
import { ip } from '../model/samples.ts'
import { testPod } from '../proxy/loopback-world.ts'
import { KNOWN } from '../proxy/policies.ts'

type PolicyKind = 'AuthorizationPolicy' | 'PeerAuthentication'

interface Written {
  readonly kind: PolicyKind
  readonly metadata: { readonly name: string; readonly namespace: string }
  readonly spec: object
}

/** Pods `web` and `webhook` of the shop, under these objects, and the agent of their node. */
function shopWith(...objects: readonly Written[]) {
  const { translator, state, statuses } = startTranslator()
  const addresses = { web: '10.244.0.1', webhook: '10.244.0.2' } as const
  for (const name of ['web', 'webhook'] as const)
    translator.upsert(
      'Pod',
      kubePod(name, { labels: { app: name }, status: running(addresses[name]) }),
    )
  for (const { kind, metadata, spec } of objects)
    translator.upsert(kind, {
      metadata: { ...metadata, creationTimestamp: '2026-01-01T00:00:00Z' },
      spec,
    })
  translator.complete()
  state.apply([KNOWN])
  const policies = new PoliciesOfPods(state)
  const verdict = (
    app: keyof typeof addresses,
    port: number,
    caller: { readonly name?: string; readonly address?: string },
  ): string => {
    const address = ip(addresses[app])
    const pod = testPod(app, address)
    const call = {
      peer: { address: ip(caller.address ?? '10.244.9.9'), port: 40_000 },
      peerIdentity: caller.name === undefined ? undefined : testPod(caller.name).identity,
      destination: pod.uid,
      target: { address, port },
      via: caller.name === undefined ? ('plaintext' as const) : ('hbone' as const),
    }
    return policyRefusal(policies.of(pod), call, 'refuse', 0)?.message ?? 'served'
  }
  return { verdict, statuses }
}

const at = (name: string, namespace = 'shop') => ({ name, namespace })
const selector = { matchLabels: { app: 'web' } }

void t.test('a DENY with conditions on requests alone does not pass everything in silence', (t) => {
  const { verdict, statuses } = shopWith({
    kind: 'AuthorizationPolicy',
    metadata: at('no-deletes'),
    spec: { selector, action: 'DENY', rules: [{ to: [{ operation: { methods: ['DELETE'] } }] }] },
  })
  t.equal(verdict('web', 8080, { name: 'frontend' }), 'explicitly denied by: shop/no-deletes')
  t.match(statuses('shop/no-deletes'), [
    /^ZtunnelAccepted True UnsupportedValue stricter than written.*operation\.methods.*by spec\.targetRefs/,
  ])
  t.equal(verdict('webhook', 8080, { name: 'frontend' }), 'served', 'whom it does not select')
  t.end()
})

void t.test("a policy for a gateway does not reach other pods' agents", (t) => {
  for (const target of [
    { targetRefs: [{ kind: 'Gateway', group: 'gateway.networking.k8s.io', name: 'waypoint' }] },
    { targetRef: { kind: 'Service', group: '', name: 'web' } },
  ]) {
    const { verdict, statuses } = shopWith({
      kind: 'AuthorizationPolicy',
      metadata: at('api'),
      spec: { ...target, action: 'ALLOW', rules: [{ to: [{ operation: { paths: ['/api/*'] } }] }] },
    })
    for (const app of ['web', 'webhook'] as const)
      t.equal(verdict(app, 8080, { name: 'frontend' }), 'served', app)
    t.match(statuses('shop/api'), [/^WaypointAccepted False TargetNotFound no waypoint enforces/])
  }
  t.end()
})

void t.test("PERMISSIVE for a port of a workload goes before its namespace's STRICT", (t) => {
  const { verdict } = shopWith(
    { kind: 'PeerAuthentication', metadata: at('all'), spec: { mtls: { mode: 'STRICT' } } },
    {
      kind: 'PeerAuthentication',
      metadata: at('web'),
      spec: { selector, portLevelMtls: { 9090: { mode: 'PERMISSIVE' } } },
    },
  )
  t.equal(verdict('web', 9090, {}), 'served')
  t.match(verdict('web', 8080, {}), /explicitly denied by/)
  t.match(verdict('webhook', 9090, {}), /explicitly denied by/)
  t.equal(verdict('web', 8080, { name: 'frontend' }), 'served')
  t.end()
})

void t.test('STRICT leaves the API server the way to a webhook that docs/policy.md prints', (t) => {
  const page = readFileSync(new URL('../../docs/policy.md', import.meta.url), 'utf8')
  const printed = [...page.matchAll(/```yaml\n([^]*?)```/g)].find(([, yaml]) =>
    yaml?.includes('name: webhook-callers'),
  )?.[1]
  const documents = parseYamlDocuments(printed ?? '')
  if (!documents.ok) throw new Error(documents.error.what)
  const { verdict, statuses } = shopWith(
    { kind: 'PeerAuthentication', metadata: at('all'), spec: { mtls: { mode: 'STRICT' } } },
    ...documents.value.map(({ value }) => value as Written),
  )
  for (const address of ['192.0.2.10', '192.0.2.11'])
    t.equal(verdict('webhook', 8443, { address }), 'served', 'an API server')
  t.equal(
    verdict('webhook', 8443, { address: '192.0.2.12' }),
    'explicitly denied by: shop/webhook-callers',
    'anybody else without an identity',
  )
  t.match(
    verdict('webhook', 8080, { address: '192.0.2.10' }),
    /explicitly denied/,
    'that port alone',
  )
  t.match(verdict('web', 8443, { address: '192.0.2.10' }), /explicitly denied/, 'that pod alone')
  t.equal(verdict('webhook', 8443, { name: 'frontend' }), 'served', 'who has an identity')
  t.match(statuses('shop/webhook'), [/^ZtunnelAccepted True Accepted/])
  t.match(statuses('shop/webhook-callers'), [/^ZtunnelAccepted True Accepted/])
  t.end()
})
