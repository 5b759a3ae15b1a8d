// SPDX-License-Identifier: Apache-2.0
// Workloads' certificates by a signer of the cluster, through the true API server's CertificateSigningRequests, with its admission and
// rights: as cert-manager does it.

import t, { type Test } from 'tap'
import type { DemoLab } from '../../lab/demo/check.ts'
import { clientObjects, lifeObjects, NAMESPACE } from './support/life-objects.ts'
import { installKinds, removeMesh, TIMEOUT, untilCaptured } from './support/mesh.ts'
import { type Signer, startSigner } from './support/signer.ts'
import { openStory, startApplication } from './support/story.ts'
import { missingCluster } from './support/target.ts'

const SYSTEM = 'ambit-system'
const SIGNER = 'ambit.test/mesh'
/** As many as the chart has by itself. */
const CONTROLLERS = 2
const PATIENCE = ['--timeout', '150'] as const
const CALL = ['curl', '-sS', '-o', '/dev/null', '-w', '%{http_code}', '-m', '20'] as const

await t.test('a signer of the cluster', { skip: missingCluster('nodes') }, async (t) => {
  const { lab, directory } = openStory(t)
  await removeMesh(lab)
  await installKinds(lab)
  const [namespace] = lifeObjects()
  await lab.apply(namespace ?? {})
  const signer = await startSigner(lab, SIGNER, directory)
  t.teardown(async () => await signer.close())

  await t.test('its root is trusted first, then it signs what the mesh approves', async (t) => {
    // Else pods of one node call one another without certificates: their agent vouches for both.
    await lab.ambit('install', ...PATIENCE, '--set', 'agent.sameNode=encrypt')
    await trust(lab, signer.root)
    await lab.ambit('upgrade', ...PATIENCE, '--set', `controller.certificateSigner=${SIGNER}`)
    await onlyNewControllers(lab)
    await startApplication(lab, lifeObjects())
    await strict(lab)
    t.equal(await call(lab, 'client'), '200', 'mutual TLS with certificates of the signer')
    signedFor(t, signer, ['web', 'client'])
    t.equal(await requests(lab), '', 'no request is left behind')
  })
  await t.test('while it is away nobody new has a certificate, and nobody gets in', async (t) => {
    await signer.close()
    await lab.apply({ apiVersion: 'v1', kind: 'List', items: clientObjects('late') })
    await lab.kubectl('wait', '-n', NAMESPACE, 'pod/late', '--for=condition=Ready', TIMEOUT)
    await untilCaptured(lab, NAMESPACE)
    t.equal(await call(lab, 'late'), '000')
    t.equal(await call(lab, 'client'), '200', 'who has one is served')
  })
  await t.test('it is uninstalled like any other', async (t) => {
    await lab.ambit('uninstall', ...PATIENCE)
    t.equal(await requests(lab), '')
  })
})

/** Adds a root to those of the mesh's own authority, and waits until every agent says that it trusts it. */
async function trust(lab: DemoLab, root: string): Promise<void> {
  const secret = ['secret', 'ambit-ca-secret', '-n', SYSTEM]
  const own = await lab.kubectl('get', ...secret, '-o', 'jsonpath={.data.ca-cert\\.pem}')
  const both = Buffer.concat([Buffer.from(own, 'base64'), Buffer.from(`\n${root}`)])
  const data = { 'root-cert.pem': both.toString('base64') }
  await lab.kubectl('patch', ...secret, '--type=merge', '-p', JSON.stringify({ data }))
  const line = root.trim().split('\n').at(-2) ?? ''
  const published = async (): Promise<string> =>
    await lab.kubectl('get', 'configmap', 'istio-ca-root-cert', '-n', SYSTEM, '-o', 'yaml')
  while (!(await published()).includes(line));
}

/** Those before them sign by themselves, until their last agent has turned to another. */
async function onlyNewControllers({ kubectl }: DemoLab): Promise<void> {
  const pods = ['get', 'pods', '-n', SYSTEM, '-l', 'app=ambit-controller', '-o', 'name']
  while ((await kubectl(...pods)).trim().split('\n').length > CONTROLLERS);
}

async function strict(lab: DemoLab): Promise<void> {
  await lab.apply({
    apiVersion: 'security.istio.io/v1',
    kind: 'PeerAuthentication',
    metadata: { namespace: NAMESPACE, name: 'strict' },
    spec: { mtls: { mode: 'STRICT' } },
  })
  const object = ['peerauthentication/strict', '-n', NAMESPACE]
  await lab.kubectl('wait', ...object, '--for=condition=Enforced', TIMEOUT)
}

/** The status of an answer, 000 where there is none. */
async function call({ kubectl }: DemoLab, pod: string): Promise<string> {
  const script = '"$@" || true'
  const words = ['sh', '-c', script, 'sh', ...CALL, `http://web.${NAMESPACE}/`]
  return await kubectl('exec', '-n', NAMESPACE, pod, '--', ...words)
}

async function requests({ kubectl }: DemoLab): Promise<string> {
  const selector = 'app.kubernetes.io/managed-by=ambit-controller'
  return await kubectl('get', 'certificatesigningrequests', '-l', selector, '-o', 'name')
}

function signedFor(t: Test, { signed }: Signer, accounts: readonly string[]): void {
  for (const account of accounts)
    t.ok(
      signed.includes(`spiffe://cluster.local/ns/${NAMESPACE}/sa/${account}`),
      `${account} has one of the signer's: ${signed.join(', ')}`,
    )
}
