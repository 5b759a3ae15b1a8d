// SPDX-License-Identifier: Apache-2.0
// What a PeerAuthentication becomes, for whom, and that what cannot be read is never less strict.

import fc from 'fast-check'
import t from 'tap'
import { readPeerAuthentication } from '../../controller/istio-api/peer-authentication.ts'
import type { PolicyKey } from '../../mesh/model/policy.ts'
import { PolicySet } from '../../mesh/policy/evaluate.ts'
import { kubePod, ORIGIN, startTranslator } from '../core/objects.ts'
import { ip } from '../model/samples.ts'

const read = (spec: unknown) => {
  const { facts } = readPeerAuthentication(
    { metadata: { name: 'p', namespace: 'shop' }, spec },
    ORIGIN,
  )
  if (facts === undefined) throw new Error('no facts')
  return facts
}

const selector = { matchLabels: { app: 'web' } }
const strict = { mtls: { mode: 'STRICT' } }

void t.test('modes are read as they are written', async (t) => {
  for (const [mode, expected] of [
    ['STRICT', 'strict'],
    ['PERMISSIVE', 'permissive'],
    ['DISABLE', 'disable'],
    ['UNSET', 'unset'],
  ] as const) {
    t.match(read({ mtls: { mode } }), { mode: expected, flaws: [] })
    const ports = read({ selector, portLevelMtls: { 8080: { mode } } }).ports
    t.strictSame([...ports], [[8080, expected]])
  }
  for (const nothing of [undefined, null, {}, { mtls: {} }, { mtls: null }, { selector: {} }])
    t.match(read(nothing), { mode: 'unset', target: { kind: 'all' }, flaws: [] })
})

void t.test('what cannot be read is strict, and what would open opens nothing', async (t) => {
  const cases: readonly (readonly [unknown, object])[] = [
    [5, { mode: 'strict', target: { kind: 'unreadable' } }],
    [{ mtls: 'STRICT' }, { mode: 'strict' }],
    [{ mtls: { mode: 'strict' } }, { mode: 'strict' }],
    [{ mtls: { mode: 7 } }, { mode: 'strict' }],
    [{ selector, mtls: { mode: 'PERMISSIVE' }, portLevelMtls: 5 }, { mode: 'strict' }],
    [{ selector, portLevelMtls: { http: { mode: 'STRICT' } } }, { mode: 'strict' }],
    [{ selector, ...strict, portLevelMtls: { 0: { mode: 'PERMISSIVE' } } }, { mode: 'strict' }],
    [
      { selector, portLevelMtls: { 80: { mode: 'X' } } },
      { mode: 'unset', ports: new Map([[80, 'strict']]) },
    ],
    [{ portLevelMtls: { 80: { mode: 'STRICT' } } }, { mode: 'strict' }],
    [
      { ...strict, portLevelMtls: { 80: { mode: 'DISABLE' } } },
      { mode: 'strict', ports: new Map() },
    ],
    [{ selector: { matchLabels: { app: '*' } }, ...strict }, { target: { kind: 'unreadable' } }],
    [{ mtls: { mode: 'STRICT' }, surprise: 1 }, { mode: 'strict' }],
    // Misspelt, where an API server keeps what it does not know.
    [{ mTLS: { mode: 'STRICT' } }, { mode: 'strict' }],
    [{ mtls: { Mode: 'STRICT' } }, { mode: 'strict' }],
    [
      { selector, portLevelMtls: { 80: { mod: 'STRICT' } } },
      { mode: 'unset', ports: new Map([[80, 'strict']]) },
    ],
    [{ mtls: { mode: 'PERMISSIVE' }, surprise: 1 }, { mode: 'permissive' }],
  ]
  for (const [spec, expected] of cases) {
    const facts = read(spec)
    t.match(facts, expected, JSON.stringify(spec))
    t.ok(facts.flaws.length > 0, 'and it says so')
  }
  const ports = Object.fromEntries(
    Array.from({ length: 2_000 }, (_, i) => [i + 1, { mode: 'DISABLE' }]),
  )
  t.match(read({ selector, portLevelMtls: ports }), { mode: 'strict', ports: new Map() })
})

void t.test('whatever stands in an object, reading it ends', async () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), fc.jsonValue(), (one, other, ports) => {
      read(one)
      read({ selector: one, mtls: other, portLevelMtls: ports })
      return read({ selector, mtls: { mode: one } }).mode !== 'permissive'
    }),
  )
})

/** A pod of the shop, and what of its ports takes plaintext. */
function start() {
  const run = startTranslator()
  run.translator.upsert('Pod', kubePod('web', { labels: { app: 'web' } }))
  run.translator.complete()
  let made = 0
  const put = (name: string, spec: object, namespace = 'shop', createdAt?: string): void => {
    made += 1
    const creationTimestamp = createdAt ?? `2026-01-01T00:00:${String(made).padStart(2, '0')}Z`
    run.translator.upsert('PeerAuthentication', {
      metadata: { name, namespace, creationTimestamp },
      spec,
    })
  }
  const named = () => run.pod('web')?.authorizationPolicies ?? []
  const takesPlaintext = (port: number): boolean => {
    const wide = [...run.state.policies].filter(
      ({ scope, namespace }) => scope === 'mesh' || (scope === 'namespace' && namespace === 'shop'),
    )
    const own = named().map((key) => run.state.policies.get(key as PolicyKey))
    const policies = [...wide, ...own].map((each) => {
      if (each === undefined) throw new Error('a policy that is named was sent')
      return each
    })
    const source = ip('10.9.9.9')
    const destination = { address: ip('10.244.0.1'), port }
    return (
      PolicySet.of(policies).evaluate({ identity: undefined, source, destination }).kind ===
      'allowed'
    )
  }
  return { ...run, put, named, takesPlaintext }
}

void t.test('workload goes before namespace, and namespace before mesh', async (t) => {
  const { put, named, takesPlaintext, translator, state } = start()
  t.equal(takesPlaintext(80), true)
  put('default', strict, 'istio-system')
  t.strictSame(named(), ['istio-system/istio_converted_static_strict'])
  t.equal(takesPlaintext(80), false)
  put('ours', { mtls: { mode: 'PERMISSIVE' } })
  t.equal(takesPlaintext(80), true, 'a namespace that is not')
  put('web', { selector, ...strict, portLevelMtls: { 8080: { mode: 'PERMISSIVE' } } })
  t.strictSame(named(), ['shop/converted_peer_authentication_web'])
  t.strictSame([takesPlaintext(80), takesPlaintext(8080)], [false, true])
  t.equal(
    state.policies.get('shop/converted_peer_authentication_web' as PolicyKey)?.madeOf,
    'PeerAuthentication shop/web',
  )
  put('web', { selector, portLevelMtls: { 9090: { mode: 'STRICT' } } })
  t.strictSame([takesPlaintext(80), takesPlaintext(9090)], [true, false], 'UNSET: as the namespace')
  put('ours', strict)
  t.strictSame([takesPlaintext(80), takesPlaintext(9090)], [false, false])
  put('other', { selector: { matchLabels: { app: 'other' } }, mtls: { mode: 'DISABLE' } })
  t.equal(takesPlaintext(80), false, "another's exception")
  translator.delete('PeerAuthentication', 'shop', 'ours')
  translator.delete('PeerAuthentication', 'istio-system', 'default')
  t.strictSame([takesPlaintext(80), takesPlaintext(9090)], [true, false])
  put('root', { selector, ...strict }, 'istio-system')
  t.equal(takesPlaintext(80), true, 'a selector of the root namespace is for its own workloads')
})

void t.test('of two for the same workloads the oldest counts, and both say so', async (t) => {
  const { put, takesPlaintext, statuses, translator } = start()
  put('younger', { selector, ...strict }, 'shop', '2026-02-01T00:00:00Z')
  t.equal(takesPlaintext(80), false)
  t.match(statuses('shop/younger'), [
    /^ZtunnelAccepted True Accepted agents have it as it is written$/,
  ])
  put('older', { selector, mtls: { mode: 'PERMISSIVE' } }, 'shop', '2026-01-01T00:00:00Z')
  t.equal(takesPlaintext(80), true)
  t.match(statuses('shop/younger'), [/^ZtunnelAccepted True .*shop\/older .*the older one counts/])
  t.match(statuses('shop/older'), [/^ZtunnelAccepted True .*shop\/younger .*the older one counts/])
  put('wide-b', { mtls: { mode: 'PERMISSIVE' } }, 'shop', '2026-02-01T00:00:00Z')
  put('wide-a', strict, 'shop', '2026-01-01T00:00:00Z')
  t.match(statuses('shop/wide-b'), [/^ZtunnelAccepted False Invalid shop\/wide-a .*older/])
  t.match(statuses('shop/wide-a'), [/^ZtunnelAccepted True .*shop\/wide-b/])
  translator.delete('PeerAuthentication', 'shop', 'older')
  t.equal(takesPlaintext(80), false)
})

void t.test('one that does not say whom it selects is strict for all whom it may', async (t) => {
  const { put, takesPlaintext } = start()
  put('exempt', { selector, mtls: { mode: 'DISABLE' } })
  t.equal(takesPlaintext(80), true)
  put('broken', { selector: { matchLabels: 5 }, mtls: { mode: 'PERMISSIVE' } })
  t.equal(takesPlaintext(80), true, 'what would open is void')
  put('broken', { selector: { matchLabels: 5 }, ...strict })
  t.equal(takesPlaintext(80), false)
  put('broken', { selector: { matchLabels: 5 }, ...strict }, 'istio-system')
  t.equal(takesPlaintext(80), false)
})
