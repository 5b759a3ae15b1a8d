// SPDX-License-Identifier: Apache-2.0
// Which policies concern a pod, and what they say of a call into it: a pod of which one policy is missing is closed.

import t from 'tap'
import type { InboundCall, Refusal } from '../../agent/proxy/admission.ts'
import { PoliciesOfPods } from '../../agent/proxy/decision/pod-policies.ts'
import {
  allowedBy,
  type MissingPolicies,
  POLICY_WAIT_MS,
  policyRefusal,
  policyReports,
} from '../../agent/proxy/decision/policy-judge.ts'
import type { LocalPod } from '../../agent/proxy/local-pod.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { IpAddress, MeshChange, PodUid } from '../../mesh/model/types.ts'
import { newAddress, testPod } from './loopback-world.ts'
import {
  EVERYBODY,
  from,
  gone,
  KNOWN,
  naming,
  policy,
  rule,
  STRICT,
  strict,
  unreadable,
} from './policies.ts'

const catalog = testPod('catalog', '10.244.2.3' as IpAddress)

function callBy(name: string | undefined, via: InboundCall['via'] = 'hbone'): InboundCall {
  return {
    peer: { address: '10.244.1.2' as IpAddress, port: 40_000 },
    peerIdentity: name === undefined ? undefined : testPod(name).identity,
    destination: catalog.uid,
    target: { address: '10.244.2.3' as IpAddress, port: 8080 },
    via,
  }
}

/** What is known by these changes, asked at a time. */
function knowing(...changes: readonly MeshChange[]) {
  const mesh = new MeshState()
  const told: (readonly PodUid[])[] = []
  const policies = new PoliciesOfPods(mesh, ({ pods }) => {
    if (pods.length > 0) told.push(pods)
  })
  mesh.apply(changes)
  return {
    mesh,
    policies,
    told,
    ask: (
      name: string | undefined,
      atMs = 0,
      mode: MissingPolicies = 'refuse',
      pod: LocalPod = catalog,
    ): Refusal | undefined => policyRefusal(policies.of(pod), callBy(name), mode, atMs),
  }
}

const LATER = POLICY_WAIT_MS

await t.test('only whom an ALLOW policy names gets in; the refusal says which', (t) => {
  const { ask, policies } = knowing(
    KNOWN,
    naming(catalog, ['shop/only-frontend']),
    policy('shop/only-frontend', { rules: [rule(from('frontend'), 3)] }),
  )
  t.equal(ask('frontend'), undefined)
  t.same(allowedBy(policies.of(catalog), callBy('frontend')), {
    policy: 'shop/only-frontend',
    rule: 3,
    madeOf: 'AuthorizationPolicy shop/only-frontend',
  })
  for (const other of ['basket', undefined])
    t.same(ask(other), {
      kind: 'refuse',
      reason: 'policyDenied',
      message: 'allow policies exist, but none allowed: shop/only-frontend',
      by: {
        policy: 'shop/only-frontend',
        rule: undefined,
        madeOf: 'AuthorizationPolicy shop/only-frontend',
      },
    })
  t.end()
})

await t.test(
  'mesh, namespace and workload are one set: DENY of any denies, ALLOW of any allows',
  (t) => {
    const { ask, mesh } = knowing(
      KNOWN,
      naming(catalog, ['shop/basket']),
      policy('istio-system/mesh', { scope: 'mesh', rules: [rule(from('frontend'))] }),
      policy('shop/all', { scope: 'namespace', rules: [rule(from('cart'))] }),
      policy('shop/basket', { rules: [rule(from('basket'))] }),
      policy('elsewhere/all', { scope: 'namespace', rules: [EVERYBODY] }),
      policy('shop/unnamed', { rules: [EVERYBODY] }),
    )
    for (const name of ['frontend', 'cart', 'basket']) t.equal(ask(name), undefined, name)
    t.match(ask('other'), {
      message: /none allowed: istio-system\/mesh, shop\/all, shop\/basket$/,
      by: undefined,
    })
    mesh.apply([
      policy('istio-system/no-cart', {
        scope: 'mesh',
        action: 'deny',
        rules: [rule(from('cart'))],
      }),
    ])
    t.match(ask('cart'), {
      reason: 'policyDenied',
      message: 'explicitly denied by: istio-system/no-cart',
      by: { policy: 'istio-system/no-cart', rule: 0 },
    })
    t.equal(ask('basket'), undefined)
    t.end()
  },
)

await t.test('STRICT wants an identity of everybody, and names the PeerAuthentication', (t) => {
  const { ask } = knowing(KNOWN, naming(catalog, [STRICT]), strict())
  t.equal(ask('anybody'), undefined)
  t.match(ask(undefined), {
    reason: 'policyDenied',
    message: `explicitly denied by: ${STRICT}`,
    by: { policy: STRICT, madeOf: 'PeerAuthentication istio-system/default' },
  })
  t.end()
})

await t.test('a DENY rule of which nobody can tell whether it matches denies', (t) => {
  const { ask } = knowing(
    KNOWN,
    naming(catalog, ['shop/odd', 'shop/all']),
    policy('shop/odd', { action: 'deny', rules: [rule({ isPartlyUnread: true })] }),
    policy('shop/all', { rules: [EVERYBODY] }),
  )
  t.match(ask('frontend'), { reason: 'policyDenied', message: /shop\/odd.*cannot be told/ })
  t.end()
})

await t.test('what is named and has not come closes the pod, after a wait', (t) => {
  const { ask, mesh } = knowing(KNOWN, naming(catalog, ['shop/late', 'shop/there']))
  mesh.apply([
    policy('shop/there', { action: 'deny', rules: [rule(from('enemy'))] }),
    policy('shop/other', { rules: [] }),
  ])
  const waits = ask('frontend', 1_000)
  t.match(waits, { reason: 'policyMissing', pendingUntilMs: 1_000 + LATER })
  t.match(waits, {
    message: 'policy shop/late is named and has not arrived',
    by: { policy: 'shop/late' },
  })
  t.match(ask('enemy', 1_000), { reason: 'policyDenied' }, 'what is known to deny denies')
  t.match(ask('frontend', 2_000), { pendingUntilMs: 1_000 + LATER }, 'the wait is one for all')
  mesh.apply([policy('shop/there', { action: 'deny', rules: [] })])
  t.match(ask('frontend', 3_000), { pendingUntilMs: 1_000 + LATER }, 'and no change starts it anew')
  t.notOk(ask('frontend', 1_000 + LATER)?.pendingUntilMs)
  t.match(ask('frontend', 1_000 + LATER), { reason: 'policyMissing' })
  t.equal(ask('frontend', 1_000 + LATER, 'serve'), undefined, 'unless told to serve')
  mesh.apply([policy('shop/late', { rules: [rule(from('frontend'))] })])
  t.equal(ask('frontend', 99_000), undefined)
  mesh.apply([gone('shop/late')])
  t.match(ask('frontend', 99_000), { pendingUntilMs: 99_000 + LATER }, 'another gap, another wait')
  t.end()
})

await t.test('what cannot be read closes at once whom it may concern', (t) => {
  for (const [key, scope, concerned] of [
    ['shop/x', 'workload', ['named']],
    ['shop/x', 'namespace', ['named', 'near']],
    ['istio-system/x', 'mesh', ['named', 'near', 'far']],
    ['shop/x', undefined, ['named', 'near']],
    ['istio-system/x', undefined, ['named', 'near', 'far']],
  ] as const) {
    const pods = {
      named: catalog,
      near: testPod('near', newAddress()),
      far: testPod('far', newAddress(), 'elsewhere'),
    }
    const { ask, mesh } = knowing(
      KNOWN,
      naming(pods.named, [key]),
      naming(pods.near, []),
      naming(pods.far, []),
    )
    if (scope !== undefined) mesh.apply([policy(key, { scope, rules: [EVERYBODY] })])
    mesh.apply([unreadable(key)])
    for (const [name, pod] of Object.entries(pods)) {
      const refusal = ask('frontend', 0, 'refuse', pod)
      if ((concerned as readonly string[]).includes(name)) {
        t.match(refusal, {
          reason: 'policyMissing',
          message: `policy ${key} cannot be read: rules: garbled`,
          by: { policy: key },
        })
        t.notOk(refusal?.pendingUntilMs, 'nothing is waited for')
        t.equal(ask('frontend', 0, 'serve', pod), undefined)
      } else t.equal(refusal, undefined, `${name}, ${key} of ${scope}`)
    }
    mesh.apply([gone(key), naming(pods.named, [])])
    for (const pod of Object.values(pods)) t.equal(ask('frontend', 0, 'refuse', pod), undefined)
  }
  t.end()
})

await t.test('a pod is closed as long as nobody has told of its policies', (t) => {
  const unknown = { reason: 'policyMissing', message: 'policies of the pod are not known yet' }
  const { ask, mesh } = knowing()
  t.match(ask('frontend'), unknown)
  mesh.apply([naming(catalog, [])])
  t.match(ask('frontend'), unknown, 'its workload alone says nothing of policies')
  mesh.apply([{ kind: 'policyKnowledge', is: 'held' }])
  t.equal(ask('frontend'), undefined, 'what was held before is something to go by')
  mesh.apply([KNOWN])
  t.equal(ask('frontend'), undefined)
  const young = testPod('young', newAddress())
  t.match(ask('frontend', 5, 'refuse', young), { ...unknown, pendingUntilMs: 5 + LATER })
  t.equal(ask('frontend', 5 + LATER, 'serve', young), undefined)
  mesh.apply([policy('shop/nobody', { scope: 'namespace', action: 'deny', rules: [EVERYBODY] })])
  t.match(ask('frontend', 5 + LATER, 'serve', young), { reason: 'policyDenied' })
  t.end()
})

await t.test('what is said of the former pod of the name is not said of this one', (t) => {
  const former = testPod('web-0', newAddress())
  const next = testPod('web-0', newAddress())
  const { ask, mesh, policies } = knowing(KNOWN, naming(former, []))
  policies.follow(former)
  policies.follow(next)
  t.equal(ask('frontend', 0, 'refuse', former), undefined)
  t.match(ask('frontend', 0, 'refuse', next), { reason: 'policyMissing' })
  mesh.apply([naming(next, ['shop/nobody']), policy('shop/nobody')])
  t.match(ask('frontend', 0, 'refuse', next), { reason: 'policyDenied' })
  t.equal(ask('frontend', 0, 'refuse', former), undefined, 'the former keeps its own')
  t.end()
})

await t.test('a pod with a new sandbox hears what is said of that one', (t) => {
  const again = { ...catalog, addresses: [newAddress()] }
  const { ask, mesh, policies } = knowing(KNOWN, naming(catalog, []))
  policies.follow(catalog)
  // Connections of the sandbox before are carried to their end meanwhile.
  policies.follow(again)
  t.match(ask('frontend', 0, 'refuse', again), { reason: 'policyMissing' }, 'nothing yet')
  mesh.apply([policy('shop/nobody'), naming(again, ['shop/nobody'])])
  t.match(ask('frontend', 0, 'refuse', again), { reason: 'policyDenied' })
  mesh.apply([naming(again, [])])
  policies.follow({ ...again, addresses: [...again.addresses, newAddress()] })
  t.equal(ask('frontend', 0, 'refuse', again), undefined, 'one more address is the same sandbox')
  t.end()
})

await t.test('a pod that discovery has dropped and that still runs keeps its policies', (t) => {
  const { ask, mesh, policies } = knowing(KNOWN, naming(catalog, ['shop/only-frontend']))
  policies.follow(catalog)
  mesh.apply([policy('shop/only-frontend', { rules: [rule(from('frontend'))] })])
  mesh.apply([{ kind: 'workloadRemoved', uid: catalog.workloadUid }])
  t.equal(ask('frontend'), undefined)
  t.match(ask('basket'), { reason: 'policyDenied' })
  mesh.apply([policy('shop/only-frontend', { rules: [] })])
  t.match(ask('frontend'), { reason: 'policyDenied' }, 'as they change')
  t.end()
})

await t.test('only whom a change concerns is told of it', (t) => {
  const near = testPod('near', newAddress())
  const far = testPod('far', newAddress(), 'elsewhere')
  const { ask, mesh, told } = knowing(
    KNOWN,
    naming(catalog, ['shop/a']),
    naming(near, []),
    naming(far, []),
    policy('shop/a', { rules: [EVERYBODY] }),
  )
  for (const [change, concerned] of [
    [policy('shop/a'), [catalog]],
    [policy('shop/unnamed'), []],
    [policy('shop/unnamed', { scope: 'namespace' }), [catalog, near]],
    [policy('shop/unnamed'), [catalog, near]],
    [policy('root/m', { scope: 'mesh', action: 'deny' }), [catalog, near, far]],
    [gone('root/m'), [catalog, near, far]],
    [naming(near, [], { status: 'unhealthy' }), []],
    [naming(near, ['shop/a']), [near]],
    [gone('shop/a'), [catalog, near]],
    [unreadable('elsewhere/b'), [far]],
    [{ kind: 'workloadRemoved', uid: near.workloadUid } as const, []],
  ] as const) {
    for (const pod of [catalog, near, far]) ask('x', 0, 'refuse', pod)
    told.length = 0
    mesh.apply([change])
    t.same(
      told.flat(),
      concerned.map(({ uid }) => uid),
      JSON.stringify(change).slice(0, 80),
    )
  }
  t.end()
})

await t.test('pods with the same list share what is compiled of it', (t) => {
  const other = testPod('other', newAddress())
  const { policies, mesh } = knowing(
    KNOWN,
    naming(catalog, ['shop/a', 'shop/b']),
    naming(other, ['shop/b', 'shop/a', 'shop/a']),
    policy('shop/a'),
    policy('shop/b'),
    policy('shop/wide', { scope: 'namespace' }),
  )
  const layersOf = (pod: LocalPod) => policies.of(pod).layers
  t.equal(layersOf(catalog)[2], layersOf(other)[2])
  const [, wide, named] = layersOf(catalog)
  mesh.apply([policy('shop/a', { rules: [EVERYBODY] })])
  t.equal(layersOf(catalog)[1], wide, 'what has not changed is not compiled again')
  t.not(layersOf(catalog)[2], named)
  t.end()
})

await t.test('policies on trial and on record report, and refuse nobody', (t) => {
  const { ask, policies } = knowing(
    KNOWN,
    naming(catalog, ['shop/trial-deny', 'shop/trial-allow', 'shop/watch', 'shop/watch-trial']),
    policy('shop/trial-deny', {
      isDryRun: true,
      action: 'deny',
      rules: [rule(from('enemy'), 1)],
    }),
    policy('shop/trial-allow', { isDryRun: true, rules: [rule(from('frontend'), 2)] }),
    policy('shop/watch', { isDryRun: true, isAudit: true, rules: [rule(from('enemy'))] }),
  )
  const reportsOf = (name: string) => policyReports(policies.of(catalog), callBy(name))
  t.match(ask('frontend'), { reason: 'policyMissing' }, 'one on trial that has not come may not be')
  t.same(reportsOf('frontend'), {
    dryRun: 'would be allowed by: shop/trial-allow, rule 2',
    audit: undefined,
  })
  t.same(reportsOf('enemy'), {
    dryRun: 'would be denied by: shop/trial-deny, rule 1',
    audit: 'shop/watch',
  })
  t.same(reportsOf('other'), {
    dryRun: 'would not be allowed by: shop/trial-allow',
    audit: undefined,
  })
  const none = knowing(KNOWN, naming(catalog, []))
  t.equal(policyReports(none.policies.of(catalog), callBy('x')), undefined)
  t.end()
})
