// SPDX-License-Identifier: Apache-2.0
// What the CA remembers of callers: token verdicts, pods by node, and how often each has asked.

import t from 'tap'
import { TokenAuthenticator } from '../../controller/auth/token-authenticator.ts'
import { kubePod } from '../core/objects.ts'
import { acceptedToken, ScriptedKube } from '../support/scripted-kube.ts'
import { startPodSource } from './pod-source.ts'

const CALLER = { ok: true, value: { namespace: 'shop', serviceAccount: 'catalog' } }

function authenticator(kube: ScriptedKube): {
  ask: (token: string) => Promise<unknown>
  reviews: () => number
  now: { ms: number }
} {
  const now = { ms: 1_000_000_000_000 }
  const tokens = new TokenAuthenticator(kube.api, { audience: 'istio-ca', now: () => now.ms })
  return {
    ask: (token) => tokens.authenticate(`Bearer ${token}`),
    reviews: () => kube.calls.filter((call) => call === 'create tokenreviews').length,
    now,
  }
}

void t.test('a yes is believed for 30 s, and never beyond the expiry of the token', async (t) => {
  const kube = new ScriptedKube()
  const { ask, reviews, now } = authenticator(kube)
  kube.tokens.set('opaque', acceptedToken('shop', 'catalog'))
  t.match(await ask('opaque'), CALLER)
  now.ms += 29_999
  t.match(await ask('opaque'), CALLER)
  t.equal(reviews(), 1)
  kube.tokens.delete('opaque')
  now.ms += 1
  t.match(await ask('opaque'), { ok: false }, 'revoked since')

  const exp = now.ms / 1000 + 10
  const payload = Buffer.from(JSON.stringify({ exp })).toString('base64url')
  const jwt = `head.${payload}.signature`
  kube.tokens.set(jwt, acceptedToken('shop', 'catalog'))
  t.match(await ask(jwt), CALLER)
  kube.tokens.set(jwt, { authenticated: false, error: 'expired' })
  now.ms = exp * 1000 + 1
  t.match(await ask(jwt), { ok: false, error: { reason: /expired/ } })
})

void t.test('a no is believed for 5 s only', async (t) => {
  const kube = new ScriptedKube()
  const { ask, reviews, now } = authenticator(kube)
  t.match(await ask('early'), { ok: false, error: { kind: 'unauthenticated' } })
  kube.tokens.set('early', acceptedToken('shop', 'catalog'))
  t.match(await ask('early'), { ok: false })
  t.equal(reviews(), 1)
  now.ms += 5000
  t.match(await ask('early'), CALLER)
})

void t.test('made-up tokens of one IPv6 network do not, either', async (t) => {
  const kube = new ScriptedKube()
  kube.tokens.set('good', acceptedToken('shop', 'catalog'))
  const tokens = new TokenAuthenticator(kube.api, { audience: 'istio-ca' })
  const flood = Array.from({ length: 150 }, (_, index) =>
    tokens.authenticate(`Bearer made-up-${index}`, `2001:db8::${index + 1}:40000`),
  )
  t.match(await tokens.authenticate('Bearer good', '2001:db8:0:1::1:5000'), CALLER)
  const verdicts = await Promise.all(flood)
  const throttled = verdicts.filter((verdict) => !verdict.ok && verdict.error.kind === 'throttled')
  t.equal(throttled.length, 100)
})

void t.test('made-up tokens of one address do not keep other callers waiting', async (t) => {
  const kube = new ScriptedKube()
  kube.tokens.set('good', acceptedToken('shop', 'catalog'))
  const tokens = new TokenAuthenticator(kube.api, { audience: 'istio-ca' })
  const flood = Array.from({ length: 30 }, (_, index) =>
    tokens.authenticate(`Bearer made-up-${index}`, `10.244.1.9:${40_000 + index}`),
  )
  t.match(await tokens.authenticate('Bearer good', '172.30.0.12:5000'), CALLER)
  const verdicts = await Promise.all(flood)
  const throttled = verdicts.filter((verdict) => !verdict.ok && verdict.error.kind === 'throttled')
  t.equal(throttled.length, 20, 'ten are reviewed at a time, the rest is told to try again')
  t.match(await tokens.authenticate('Bearer good', '10.244.1.9:6000'), CALLER, 'and then may')
})

void t.test(
  'one address, one made-up token after another: then at a rate, and nobody else pays',
  async (t) => {
    const kube = new ScriptedKube()
    const now = { ms: 1_000_000_000_000 }
    const reviews = (): number => kube.calls.filter((call) => call === 'create tokenreviews').length
    const tokens = new TokenAuthenticator(kube.api, { audience: 'istio-ca', now: () => now.ms })
    let count = 0
    const flood = async (times: number, address: (index: number) => string): Promise<number> => {
      const before = reviews()
      for (let index = 0; index < times; index += 1)
        await tokens.authenticate(`Bearer made-up-${(count += 1)}`, `${address(index)}:40000`)
      return reviews() - before
    }
    const agent = '172.30.0.12:5000'
    kube.tokens.set('agent', acceptedToken('shop', 'catalog'))
    t.match(await tokens.authenticate('Bearer agent', '10.244.1.9:5000'), CALLER)
    t.equal(await flood(100, () => '10.244.1.9'), 20)
    now.ms += 1000
    t.equal(await flood(100, () => '10.244.1.9'), 2, 'two more a second')

    kube.tokens.set('fresh', acceptedToken('shop', 'catalog'))
    t.match(
      await tokens.authenticate('Bearer fresh', agent),
      CALLER,
      'others have their own account',
    )
    now.ms += 30_000
    await flood(100, () => '10.244.1.9')
    const verdict = await tokens.authenticate('Bearer agent', '10.244.1.9:5000')
    t.match(
      verdict,
      CALLER,
      'a token that was good is reviewed again whatever else its address sent',
    )

    t.equal(await flood(300, (index) => `2001:db8::${(index + 1).toString(16)}`), 100, 'a /64')
  },
)

void t.test('strangers of many addresses are bounded in sum, and keep no agent out', async (t) => {
  const kube = new ScriptedKube()
  const { now } = authenticator(kube)
  const tokens = new TokenAuthenticator(kube.api, { audience: 'istio-ca', now: () => now.ms })
  const agent = '172.30.0.12:5000'
  kube.tokens.set('agent', acceptedToken('shop', 'catalog'))
  t.match(await tokens.authenticate('Bearer agent', agent), CALLER)
  const flood = async (): Promise<number> => {
    let throttled = 0
    for (let index = 0; index < 1_000; index += 1) {
      const peer = `10.${now.ms % 251}.${index >> 8}.${index & 255}:4000`
      const verdict = await tokens.authenticate(`Bearer made-up-${now.ms}-${index}`, peer)
      if (!verdict.ok && verdict.error.kind === 'throttled') throttled += 1
    }
    return throttled
  }
  t.equal(await flood(), 600, '400 were reviewed')
  now.ms += 1_000
  t.equal(await flood(), 950, 'fifty more a second')
  now.ms += 30_000
  await flood()
  t.match(await tokens.authenticate('Bearer agent', agent), CALLER, 'it is reviewed once more')

  kube.isAway = true
  now.ms += 30_000
  const before = kube.calls.length
  for (let index = 0; index < 10; index += 1)
    t.match(await tokens.authenticate('Bearer agent', agent), {
      ok: false,
      error: { kind: 'unavailable' },
    })
  t.equal(kube.calls.length, before + 1, 'nor is the API server asked in a loop while it is away')
  kube.isAway = false
  now.ms += 1_000
  t.match(await tokens.authenticate('Bearer agent', agent), CALLER)
})

void t.test('many good tokens from one address cost it nothing', async (t) => {
  const kube = new ScriptedKube()
  const { now } = authenticator(kube)
  const tokens = new TokenAuthenticator(kube.api, { audience: 'istio-ca', now: () => now.ms })
  for (let index = 0; index < 200; index += 1) {
    kube.tokens.set(`pod-${index}`, acceptedToken('shop', 'catalog'))
    t.match(await tokens.authenticate(`Bearer pod-${index}`, '172.30.0.12:5000'), CALLER)
  }
})

void t.test('refusals do not push the verdict of a good token out', async (t) => {
  const kube = new ScriptedKube()
  const { ask, reviews, now } = authenticator(kube)
  kube.tokens.set('good', acceptedToken('shop', 'catalog'))
  await ask('good')
  for (let index = 0; index < 10_001; index += 1) {
    if (index % 400 === 0) now.ms += 1_000
    await ask(`made-up-${index}`)
  }
  const before = reviews()
  t.match(await ask('good'), CALLER)
  t.equal(reviews(), before, 'believed still')
})

void t.test('headers that carry no bearer token cost no review', async (t) => {
  const kube = new ScriptedKube()
  const tokens = new TokenAuthenticator(kube.api, { audience: 'istio-ca' })
  for (const header of [
    undefined,
    '',
    'Bearer',
    'Bearer ',
    'Basic abc',
    'Bearer a b',
    `Bearer ${'x'.repeat(20_000)}`,
  ])
    t.match(
      await tokens.authenticate(header),
      { ok: false, error: { kind: 'unauthenticated' } },
      String(header).slice(0, 20),
    )
  t.equal(kube.calls.length, 0)
})

void t.test('a flood of made-up tokens does not reach the API server in full', async (t) => {
  const kube = new ScriptedKube()
  const { ask, reviews } = authenticator(kube)
  const verdicts = await Promise.all(Array.from({ length: 500 }, (_each, n) => ask(`made-up-${n}`)))
  t.equal(reviews(), 100)
  t.match(verdicts.at(-1), { ok: false, error: { kind: 'throttled' } })
})

void t.test('the pod index follows pods through moves, ends and reused names', (t) => {
  const { index, upsert, remove } = startPodSource()
  upsert(kubePod('catalog', { uid: 'one' }))
  t.equal(index.runsOn('node-a', 'shop', 'catalog'), true)
  t.equal(index.runsOn('node-b', 'shop', 'catalog'), false)
  upsert(kubePod('catalog', { uid: 'two', spec: { nodeName: 'node-b' } }))
  t.equal(index.runsOn('node-b', 'shop', 'catalog'), true)
  t.equal(index.runsOn('node-a', 'shop', 'catalog'), false, 'its predecessor is gone')
  t.equal(index.find('shop', 'catalog', 'two')?.node, 'node-b')
  t.equal(index.find('shop', 'catalog', 'one'), undefined)
  remove('shop', 'catalog')
  t.equal(index.runsOn('node-b', 'shop', 'catalog'), false)
  t.equal(index.find('shop', 'catalog', 'two'), undefined)
  upsert(kubePod('catalog', { uid: 'one', status: { phase: 'Failed' } }))
  t.equal(
    index.runsOn('node-a', 'shop', 'catalog'),
    false,
    'an ended pod lends its identity to nobody',
  )
  t.end()
})

void t.test('a pod that is being deleted has its identity until it is gone', (t) => {
  const { index, upsert, remove } = startPodSource()
  const leaving = kubePod('catalog', { uid: 'one' })
  const metadata = { ...leaving.metadata, deletionTimestamp: '2026-01-01T00:00:00Z' }
  upsert({ ...leaving, metadata })
  t.equal(index.runsOn('node-a', 'shop', 'catalog'), true, 'its certificate is renewed')
  remove('shop', 'catalog')
  t.equal(index.runsOn('node-a', 'shop', 'catalog'), false)
  t.end()
})

void t.test('two pods of one account: the identity stays until the last is gone', (t) => {
  const { index, upsert, remove } = startPodSource()
  upsert(kubePod('v1'))
  upsert(kubePod('v2'))
  remove('shop', 'v1')
  t.equal(index.runsOn('node-a', 'shop', 'catalog'), true)
  remove('shop', 'v2')
  t.equal(index.runsOn('node-a', 'shop', 'catalog'), false)
  t.end()
})
