// SPDX-License-Identifier: Apache-2.0
// The Secrets of the authority: the root is made once, shared by all replicas, never overwritten; the operator's own comes first.

import t from 'tap'
import { loadOrCreateAuthority } from '../../controller/ca/ca-secret.ts'
import { createRoot } from '../../mesh/identity/root.ts'
import { createKubeApi, SECRETS } from '../../mesh/kube/index.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'
import { FaultyApi } from '../support/faulty-api.ts'
import { ScriptedKube } from '../support/scripted-kube.ts'

const options = {
  namespace: 'ambit-system',
  selfMade: 'ambit-ca-secret',
  plugIn: 'cacerts',
  trustDomain: 'cluster.local',
  log: createLogger('test', 'silent'),
}
const secretName = { namespace: options.namespace, name: options.selfMade }
const base64 = (text: string): string => Buffer.from(text).toString('base64')

void t.test('the first start creates the root, the next one finds it', async (t) => {
  const kube = new ScriptedKube()
  const first = await loadOrCreateAuthority(kube.api, options)
  const second = await loadOrCreateAuthority(kube.api, options)
  if (!first.ok || !second.ok) throw new Error('no root')
  t.equal(second.value.authority.issuerPem, first.value.authority.issuerPem)
  t.equal(kube.calls.filter((call) => call === 'create secrets').length, 1)
  const years = (first.value.authority.notAfter.getTime() - Date.now()) / (365 * 86_400_000)
  t.ok(years > 9.99 && years < 10.01, 'ten years')
})

void t.test('replicas that start at once agree on one root', async (t) => {
  const kube = new ScriptedKube()
  const replicas = 3
  let arrived = 0
  const { promise: allArrived, resolve: release } = Promise.withResolvers<void>()
  // Everybody has seen that there is no Secret before anybody creates it.
  kube.beforeCreate = () => {
    arrived += 1
    if (arrived >= replicas) release()
    return allArrived
  }
  const roots = await Promise.all(
    Array.from({ length: replicas }, () => loadOrCreateAuthority(kube.api, options)),
  )
  const pems = new Set(roots.map((root) => (root.ok ? root.value.authority.issuerPem : 'failed')))
  t.equal(pems.size, 1)
  t.notOk(pems.has('failed'))
  t.equal(kube.calls.filter((call) => call === 'create secrets').length, replicas)
})

void t.test('a broken Secret is an error that names the field, and is left as it is', async (t) => {
  const good = await createRoot({ organization: 'cluster.local' })
  const other = await createRoot({ organization: 'cluster.local' })
  const table: readonly (readonly [string, Record<string, string>, RegExp])[] = [
    ['no data', {}, /data\["ca-cert.pem"\]: is missing or empty/],
    ['no key', { 'ca-cert.pem': good.certificatePem }, /data\["ca-key.pem"\]: is missing or empty/],
    [
      'garbage for a certificate',
      { 'ca-cert.pem': 'x', 'ca-key.pem': good.privateKeyPem },
      /data\["ca-cert.pem"\]: expected exactly one PEM certificate/,
    ],
    [
      'garbage for a key',
      { 'ca-cert.pem': good.certificatePem, 'ca-key.pem': 'x' },
      /data\["ca-key.pem"\]: not a private key/,
    ],
    [
      "another root's key",
      { 'ca-cert.pem': good.certificatePem, 'ca-key.pem': other.privateKeyPem },
      /data\["ca-key.pem"\]: does not belong to the certificate/,
    ],
  ]
  for (const [what, fields, reason] of table) {
    const kube = new ScriptedKube()
    const data = Object.fromEntries(
      Object.entries(fields).map(([field, text]) => [field, base64(text)]),
    )
    kube.put(SECRETS, { metadata: secretName, data })
    const before = await kube.api.get(SECRETS, secretName)
    const outcome = await loadOrCreateAuthority(kube.api, options)
    t.match(
      outcome,
      { ok: false, error: { kind: 'broken', error: { code: 'AMB_CA_SECRET', message: reason } } },
      what,
    )
    t.match(
      JSON.stringify(outcome).includes(good.privateKeyPem.slice(30, 60)),
      false,
      'no key in it',
    )
    t.same(await kube.api.get(SECRETS, secretName), before, 'untouched')
  }
})

void t.test('an API server that is away is told apart from a broken Secret', async (t) => {
  const kube = new ScriptedKube()
  kube.isAway = true
  t.match(await loadOrCreateAuthority(kube.api, options), { ok: false, error: { kind: 'kube' } })
})

void t.test('a 404 of something in its place makes no new root', async (t) => {
  const kube = new FaultyApi()
  await kube.start()
  t.teardown(() => kube.stop())
  kube.put(SECRETS, { metadata: { namespace: options.namespace, name: options.plugIn } })
  kube.fail('GET', /secrets/, 2, (_, response) => {
    response.writeHead(404, { 'content-type': 'text/html' })
    response.end('<h1>404</h1>')
  })
  const api = createKubeApi(kube.access())
  t.match(await loadOrCreateAuthority(api, options), { ok: false, error: { kind: 'kube' } })
  t.equal(kube.get(SECRETS, `${options.namespace}/${options.selfMade}`), undefined)
})
