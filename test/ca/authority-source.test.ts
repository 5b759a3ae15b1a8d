// SPDX-License-Identifier: Apache-2.0
// What becomes of the authority when Secrets come that cannot be used: it goes on, says so, and takes the next good one.

import t, { type Test } from 'tap'
import { AuthoritySource } from '../../controller/ca/authority-source.ts'
import type { AuthorityPem } from '../../mesh/identity/authority.ts'
import { createKubeApi, type Secret, SECRETS } from '../../mesh/kube/index.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'
import { FakeClock } from '../identity/fake-clock.ts'
import { authorityOf, makeCa, plugIn } from '../identity/pki.ts'
import { FaultyApi } from '../support/faulty-api.ts'
import { within } from '../support/until.ts'
import { Waiter } from '../support/waiter.ts'

const NAMESPACE = 'ambit-system'
const base64 = (text: string): string => Buffer.from(text).toString('base64')

function secretOf(name: string, pem: AuthorityPem): Secret {
  return {
    metadata: { namespace: NAMESPACE, name },
    data: {
      'ca-cert.pem': base64(pem.certificatePem),
      'ca-key.pem': base64(pem.privateKeyPem),
      'cert-chain.pem': base64(pem.chainPem ?? ''),
      'root-cert.pem': base64(pem.rootsPem ?? ''),
    },
  }
}

/** A source that serves a root of the mesh's own; `refused` tells of the metric. */
async function setting(
  t: Test,
  clockBehindMs = 0,
): Promise<{
  readonly stub: FaultyApi
  readonly source: AuthoritySource
  readonly clock: FakeClock
  readonly refused: () => Promise<boolean>
  readonly changed: () => Promise<void>
}> {
  const stub = new FaultyApi()
  await stub.start()
  const own = await makeCa('own')
  const clock = new FakeClock(clockBehindMs)
  const news: boolean[] = []
  const told = new Waiter()
  const loaded = { kind: 'selfMade', authority: await authorityOf(plugIn(own, [own])) } as const
  const source = new AuthoritySource(createKubeApi(stub.access()), loaded, {
    namespace: NAMESPACE,
    selfMade: 'ambit-ca-secret',
    plugIn: 'cacerts',
    trustDomain: 'cluster.local',
    log: createLogger('test', 'silent'),
    clock,
    onRefused: (isRefused) => {
      news.push(isRefused)
      told.poke()
    },
  })
  t.teardown(async () => {
    await source.close()
    await stub.stop()
  })
  const next = async (): Promise<boolean> => {
    await told.until(() => news.length > 0, 'word of whether a Secret is refused')
    return news.shift() === true
  }
  return {
    stub,
    source,
    clock,
    refused: next,
    changed: () => {
      const { promise, resolve } = Promise.withResolvers<void>()
      const unsubscribe = source.onChange(() => {
        unsubscribe()
        resolve()
      })
      return within(promise, 'another authority')
    },
  }
}

/** The certificate with a public key that is no point of its curve: it can be read, and its key cannot. */
function damaged(pem: string): string {
  const der = Buffer.from(pem.replaceAll(/-----[^-]+-----/g, ''), 'base64')
  // The curve 1.2.840.10045.3.1.7, and then the point: the tag and length of a bit string, its unused bits, its form.
  const curve = Buffer.from('06082a8648ce3d030107', 'hex')
  der.fill(0xff, der.indexOf(curve) + curve.length + 4, der.indexOf(curve) + curve.length + 36)
  return `-----BEGIN CERTIFICATE-----\n${der.toString('base64')}\n-----END CERTIFICATE-----\n`
}

void t.test('a damaged Secret is refused, and the good one after it is taken', async (t) => {
  const { stub, source, refused, changed } = await setting(t)
  const before = source.current
  const corporate = await makeCa('corporate')
  const good = plugIn(corporate, [corporate])
  stub.put(SECRETS, secretOf('cacerts', { ...good, certificatePem: damaged(corporate.pem) }))
  t.equal(await refused(), true)
  t.equal(source.current, before)
  const change = changed()
  stub.put(SECRETS, secretOf('cacerts', good))
  await change
  t.equal(source.current.issuerPem, corporate.pem)
  t.equal(await refused(), false)
})

void t.test(
  'a Secret that is valid only soon is taken then, though nobody touches it',
  async (t) => {
    const { stub, source, clock, refused, changed } = await setting(t, 90_000)
    const soon = await makeCa('soon', { notBefore: new Date(Date.now() - 60_000) })
    stub.put(SECRETS, secretOf('cacerts', plugIn(soon, [soon])))
    t.equal(await refused(), true, 'made on a machine whose clock is ahead')
    const change = changed()
    clock.advance(60_000)
    await change
    t.match(source.current.issuerPem, soon.pem)
    t.equal(await refused(), false)
  },
)

void t.test('a refused Secret that is deleted stands refused no longer', async (t) => {
  const { stub, source, refused } = await setting(t)
  const before = source.current
  const [sound, other] = [await makeCa('sound'), await makeCa('other')]
  stub.put(SECRETS, secretOf('cacerts', { ...plugIn(sound, [sound]), privateKeyPem: other.keyPem }))
  t.equal(await refused(), true)
  stub.remove(SECRETS, `${NAMESPACE}/cacerts`)
  t.equal(await refused(), false)
  t.equal(source.current, before)
})
