// SPDX-License-Identifier: Apache-2.0
// An operator's own authority in Secret cacerts: it comes first, it changes without a restart, and a broken one changes nothing.

import t from 'tap'
import { X509Certificate } from 'node:crypto'
import { connect } from 'node:tls'
import type { RunningController } from '../../controller/controller.ts'
import type { AuthorityPem } from '../../mesh/identity/authority.ts'
import { splitCertificates } from '../../mesh/identity/pem.ts'
import { SECRETS } from '../../mesh/kube/index.ts'
import { makeCa, plugIn, type TestCa } from '../identity/pki.ts'
import { until } from '../support/until.ts'
import { runController } from './controller-process.ts'
import { expectOk, smallCluster, type SmallCluster } from './small-cluster.ts'

const CATALOG = 'spiffe://cluster.local/ns/shop/sa/catalog'
const CACERTS = { namespace: 'ambit-system', name: 'cacerts' }

/** The Secret as `kubectl create secret generic cacerts --from-file` makes it. */
async function putCacerts(cluster: SmallCluster, pem: AuthorityPem): Promise<void> {
  const data = Object.fromEntries(
    Object.entries({
      'ca-cert.pem': pem.certificatePem,
      'ca-key.pem': pem.privateKeyPem,
      'cert-chain.pem': pem.chainPem ?? '',
      'root-cert.pem': pem.rootsPem ?? '',
    }).map(([field, text]) => [field, Buffer.from(text).toString('base64')]),
  )
  const created = await cluster.admin.create(SECRETS, { metadata: CACERTS, data })
  if (!created.ok) expectOk(await cluster.admin.patch(SECRETS, CACERTS, { data }))
}

/** The certificates of the chain that the agent of node b is answered, leaf first, and the roots. */
async function answered(
  cluster: SmallCluster,
  controller: RunningController,
  token: string,
): Promise<{ readonly chain: readonly X509Certificate[]; readonly roots: readonly string[] }> {
  const { chainPem, rootsPem } = expectOk(await cluster.ask(controller, token, CATALOG))
  return {
    chain: splitCertificates(chainPem).map((pem) => new X509Certificate(pem)),
    roots: splitCertificates(rootsPem),
  }
}

/** Resolves once the root published in the shop's namespace consists of exactly these. */
async function published(cluster: SmallCluster, ...cas: readonly TestCa[]): Promise<void> {
  const wanted = cas.map(({ pem }) => pem).join('')
  await cluster.publishedRoot('shop', ({ data }) => data?.['root-cert.pem'] === wanted)
}

/** The issuer of the certificate that the gRPC port presents. */
async function servingIssuer(controller: RunningController): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      port: controller.grpcPort,
      host: '127.0.0.1',
      rejectUnauthorized: false,
      ALPNProtocols: ['h2'],
    })
    socket.once('error', reject)
    socket.once('secureConnect', () => {
      resolve(socket.getPeerX509Certificate()?.issuer)
      socket.destroy()
    })
  })
}

async function setting(t: Parameters<typeof smallCluster>[0]): Promise<{
  readonly cluster: SmallCluster
  readonly token: string
}> {
  const cluster = await smallCluster(t)
  const agent = await cluster.pod('ambit-system', 'agent-b', 'ambit-agent', 'node-b')
  await cluster.pod('shop', 'catalog', 'catalog', 'node-b')
  return { cluster, token: await cluster.tokenFile(agent) }
}

void t.test('cacerts comes before the root that the mesh would make for itself', async (t) => {
  const { cluster, token } = await setting(t)
  const root = await makeCa('corporate root', { kind: 'RSA-2048' })
  const issuer = await makeCa('mesh', { kind: 'RSA-2048', parent: root })
  await putCacerts(cluster, plugIn(issuer, [root]))
  const controller = await cluster.controller()
  const { chain, roots } = await answered(cluster, controller, token)
  t.equal(chain.length, 2)
  t.equal(chain[0]?.issuer, 'O=mesh')
  t.equal(chain[1]?.issuer, 'O=corporate root')
  t.same(roots, splitCertificates(root.pem))
  await published(cluster, root)
  const own = await cluster.admin.get(SECRETS, { ...CACERTS, name: 'ambit-ca-secret' })
  t.match(own, { ok: false, error: { kind: 'notFound' } }, 'none is made')
})

void t.test('root and issuer change in three steps, without a restart', async (t) => {
  const { cluster, token } = await setting(t)
  const [old, young] = [await makeCa('old'), await makeCa('young', { kind: 'P-384' })]
  const issuer = await makeCa('young issuer', { parent: young })
  await putCacerts(cluster, plugIn(old, [old]))
  const controller = await cluster.controller()
  await published(cluster, old)
  t.equal((await answered(cluster, controller, token)).chain[0]?.issuer, 'O=old')

  await putCacerts(cluster, plugIn(old, [old, young]))
  await published(cluster, old, young)
  const overlap = await answered(cluster, controller, token)
  t.equal(overlap.chain[0]?.issuer, 'O=old', 'first both roots are trusted')
  t.equal(overlap.roots.length, 2)

  await putCacerts(cluster, plugIn(issuer, [old, young]))
  await published(cluster, young, old)
  const moved = await answered(cluster, controller, token)
  t.equal(moved.chain[0]?.issuer, 'O=young issuer', 'then the new one signs')
  t.equal(moved.roots.length, 2)
  await until(
    async () => (await servingIssuer(controller)) === 'O=young issuer',
    'a certificate of the new issuer on the gRPC port',
  )
  t.pass('and the controller shows a certificate of it')

  await putCacerts(cluster, plugIn(issuer, [young]))
  await published(cluster, young)
  const done = await answered(cluster, controller, token)
  t.same(done.roots, splitCertificates(young.pem), 'and last the old root is gone')
})

void t.test(
  'an authority that comes while the controller runs takes over from its own',
  async (t) => {
    const { cluster, token } = await setting(t)
    const controller = await cluster.controller()
    const own = controller.rootsPem
    const root = await makeCa('corporate root')
    await putCacerts(cluster, plugIn(root, [root]))
    await published(cluster, root)
    t.not(controller.rootsPem, own)
    t.equal((await answered(cluster, controller, token)).chain[0]?.issuer, 'O=corporate root')
  },
)

void t.test('a broken new one is refused, and the one before goes on', async (t) => {
  const { cluster, token } = await setting(t)
  const [root, other] = [await makeCa('sound'), await makeCa('other')]
  await putCacerts(cluster, plugIn(root, [root]))
  const controller = await cluster.controller()
  const metric = async (): Promise<string> => {
    const answer = await fetch(`http://127.0.0.1:${controller.healthPort}/metrics`)
    return /^ambit_controller_ca_secret_refused (\d)$/m.exec(await answer.text())?.[1] ?? ''
  }
  await putCacerts(cluster, { ...plugIn(root, [root]), privateKeyPem: other.keyPem })
  await until(async () => (await metric()) === '1', 'the refusal in the metrics')
  t.equal((await answered(cluster, controller, token)).chain[0]?.issuer, 'O=sound')
  await published(cluster, root)
  await putCacerts(cluster, plugIn(root, [root, other]))
  await published(cluster, root, other)
  t.equal((await answered(cluster, controller, token)).roots.length, 2, 'and then the mended one')
  expectOk(await cluster.admin.delete(SECRETS, CACERTS))
  t.equal((await answered(cluster, controller, token)).chain[0]?.issuer, 'O=sound', 'deleted')
})

void t.test('a broken one at the start ends the process with its name and reason', async (t) => {
  const { cluster } = await setting(t)
  const root = await makeCa('root')
  const expired = await makeCa('ended', { parent: root, notAfter: new Date(Date.now() - 1000) })
  await putCacerts(cluster, plugIn(expired, [root]))
  const controller = runController(t, cluster)
  t.same(await controller.exit, [1, null])
  t.match(
    controller.output(),
    /AMB_CA_SECRET.*ambit-system\/cacerts: data\[\\"ca-cert.pem\\"\]: \\"O=ended\\" expired at/,
  )
})
