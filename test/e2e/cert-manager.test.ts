// SPDX-License-Identifier: Apache-2.0
// Given a mesh on a true API server and cert-manager's own controller with an issuer of its own root, when the mesh is told to have workloads'
// certificates signed by that issuer, then they are, and renewed, and calls go on; and where it cannot sign, whoever looks is told why.

import t, { type Test } from 'tap'
import { X509Certificate } from 'node:crypto'
import { renderChart } from '../../daemonset/render/chart.ts'
import { createLab, type Lab, takeDown } from '../../lab/cluster/index.ts'
import { missingPrograms, startRealApiServer } from '../../lab/kubernetes/real/api-server.ts'
import { CERTIFICATE_SIGNING_REQUESTS, PODS, SECRETS } from '../../mesh/kube/index.ts'
import { missing } from '../helpers.ts'
import { makeCa, type TestCa } from '../identity/pki.ts'
import {
  type AccessLine,
  applyAll,
  linesWhere,
  MESH_NAMESPACE,
  NEEDS,
  waitForCapture,
} from './support/mesh-lab.ts'
import { objectOf, objectsIn } from './support/objects.ts'
import { namespaceManifest, serverManifest } from './support/pods.ts'
import { inForce } from './support/policy-objects.ts'
import {
  certManagerKinds,
  ISSUERS_NAMESPACE,
  missingCertManager,
  startCertManager,
} from './support/real-cert-manager.ts'
import { ambit, answers, CATALOG, SHOP } from './support/waypoint-guide.ts'

const skip = missing(...NEEDS) || missingPrograms('kube-apiserver', 'etcd') || missingCertManager()
const ACCOUNTS = 'spiffe://cluster.local/ns'
const CALLS = 20
/** The shortest that the API takes: renewed at half of it. Seconds. */
const TTL_S = 600
/** Half of it, and what a busy machine takes. */
const RENEWAL_DEADLINE_MS = (TTL_S / 2) * 1000 + 60_000
/** As many accounts of one node as ask for a certificate at once. */
const CROWD = 100
const CROWD_DEADLINE_MS = 180_000
const GROUP = 'cert-manager.io'
const ROOT = 'root of the issuers'
const OTHER_ROOT = 'root that nobody trusts'
const OF_CLUSTER = 'clusterissuers.cert-manager.io/mesh'
const OF_NAMESPACE = 'issuers.cert-manager.io/pki.mesh.of.shop'
const UNTRUSTED = 'clusterissuers.cert-manager.io/untrusted'
const CONTROLLER = 'ambit-controller'
const ABSENT = 'clusterissuers.cert-manager.io/nobody'
const FORBIDDEN = 'clusterissuers.cert-manager.io/forbidden'

const STRICT = {
  apiVersion: 'security.istio.io/v1',
  kind: 'PeerAuthentication',
  metadata: { namespace: 'shop', name: 'strict' },
  spec: { mtls: { mode: 'STRICT' } },
}

interface Dumped {
  readonly identity: string
  readonly state: string
  readonly certChain: readonly { readonly pem: string; readonly serialNumber: string }[]
  readonly rootCerts: readonly unknown[]
}

await t.test('with cert-manager', { skip }, async (t) => {
  const lab = await meshOnTrueServer(t)
  const root = await makeCa(ROOT)
  await makeIssuers(lab, root)
  await setTtl(lab)
  await lab.kubectl('label', 'namespace', 'shop', 'istio.io/dataplane-mode=ambient')
  await waitForCapture(lab, 'shop', true)
  await inForce(lab, STRICT)
  /** Calls until it has come about; one that fails ends the test. */
  const underCalls = async (change: Promise<void>): Promise<void> => {
    const done = { isDone: false }
    const changed = change.finally(() => (done.isDone = true))
    while (!done.isDone) await answers(lab, CALLS)
    await changed
  }

  const first = new Map<string, string>()
  await t.test(
    'a mesh that trusts its root moves to a ClusterIssuer, and calls go on',
    async (t) => {
      await underCalls(trust(lab, [root]))
      await underCalls(signBy(lab, OF_CLUSTER))
      // Roots that change, whichever, have every certificate asked for anew.
      await underCalls(trust(lab, [root, await makeCa('spare root')]))
      await answers(lab, CALLS)
      const calls = await linesWhere(lab, 'node-b', 'a call of the frontend', isOf('frontend'))
      t.ok(calls.length > 0)
      for (const account of ['frontend', 'catalog']) {
        const [own] = await held(lab, 'shop', account)
        t.ok(own !== undefined && isBelow(own, ROOT), `${account}: by the issuer`)
        first.set(account, own?.certChain[0]?.serialNumber ?? '')
      }
      await nothingIsLeft(t, lab)
    },
  )

  await t.test(`${CROWD} accounts of a node at once`, async (t) => {
    const startMs = performance.now()
    await applyAll(lab, [namespaceManifest('crowd'), ...crowd()])
    await lab.waitFor(
      'a certificate for each',
      async () => {
        const all = (await dumped(lab)).filter(({ identity }) =>
          identity.startsWith(`${ACCOUNTS}/crowd/`),
        )
        const signed = all.filter((each) => each.state === 'Available')
        if (signed.length === CROWD) return true
        throw new Error(`${signed.length} of ${CROWD}`)
      },
      CROWD_DEADLINE_MS,
    )
    t.comment(`all have theirs after ${((performance.now() - startMs) / 1000).toFixed(1)} s`)
    await answers(lab, CALLS)
    await nothingIsLeft(t, lab)
    await lab.kubectl('delete', 'namespace', 'crowd', '--wait=false')
  })

  await t.test('an Issuer of a namespace signs, too', async (t) => {
    await signBy(lab, OF_NAMESPACE)
    await newcomer(lab, 'guest')
    t.equal(await curl(lab, 'guest'), 0)
    const [own] = await held(lab, 'shop', 'guest')
    t.ok(own !== undefined && isBelow(own, ROOT))
  })

  for (const { what, signer, says } of [
    {
      what: 'an issuer that is not there',
      signer: ABSENT,
      says: `nobody signed it in time; is there a signer of ${ABSENT}`,
    },
    {
      what: "an issuer whose root is none of the mesh's",
      signer: UNTRUSTED,
      says: "leads to none of the mesh's roots",
    },
    {
      what: 'a signer that the controller may not approve for',
      signer: FORBIDDEN,
      says: FORBIDDEN,
    },
  ])
    await t.test(`${what} gives nobody a certificate, and says so`, async (t) => {
      const name = nameOf(signer)
      await (signer === FORBIDDEN ? setSigner(lab, signer) : signBy(lab, signer))
      await newcomer(lab, name)
      t.not(await curl(lab, name), 0, 'refused')
      const state = await lab.waitFor('word of why', async () => {
        const [own] = await held(lab, 'shop', name)
        return own?.state.includes(says) === true ? own.state : undefined
      })
      t.comment(state)
      await answers(lab, CALLS)
      t.pass('who has a certificate is served')
      await lab.kubectl('delete', 'pod', '-n', 'shop', name)
      await nothingIsLeft(t, lab)
    })

  await t.test('cert-manager renews them in time, and calls go on', async (t) => {
    await signBy(lab, OF_CLUSTER)
    for (const account of ['frontend', 'catalog']) {
      const serial = await lab.waitFor(
        `another certificate of ${account}`,
        async () => {
          await answers(lab, CALLS)
          const [own] = await held(lab, 'shop', account)
          const now = own?.certChain[0]?.serialNumber
          return own !== undefined && now !== first.get(account) ? own : undefined
        },
        RENEWAL_DEADLINE_MS,
      )
      t.ok(isBelow(serial, ROOT), `${account}: by the issuer again`)
    }
    await nothingIsLeft(t, lab)
  })
})

/** A lab with the mesh on an API server of its own, beside which cert-manager runs. */
async function meshOnTrueServer(t: Test): Promise<Lab> {
  const name = `c${process.pid}`
  const parts = new AsyncDisposableStack()
  t.teardown(async () => {
    const { leftovers } = await takeDown(name)
    await parts.disposeAsync()
    if (leftovers.length > 0) throw new Error(`left of lab ${name}: ${leftovers.join('; ')}`)
  })
  const server = parts.use(await startRealApiServer())
  const attach = { kubeconfig: server.kubeconfig }
  const lab = await createLab({ name, files: [SHOP], attach })
  await lab.apply(certManagerKinds())
  parts.use(startCertManager(server.kubeconfig))
  return lab
}

/** Of the cluster and of a namespace, below one root; and one below a root that the mesh does not know. */
async function makeIssuers(lab: Lab, root: TestCa): Promise<void> {
  const secret = (namespace: string, name: string, { pem, keyPem }: TestCa): object => ({
    apiVersion: 'v1',
    kind: 'Secret',
    type: 'kubernetes.io/tls',
    metadata: { namespace, name },
    stringData: { 'tls.crt': pem, 'tls.key': keyPem },
  })
  const issuer = (kind: string, metadata: object, secretName: string): object => ({
    apiVersion: `${GROUP}/v1`,
    kind,
    metadata,
    spec: { ca: { secretName } },
  })
  const stranger = await makeCa(OTHER_ROOT)
  const [, inNamespace = ''] = OF_NAMESPACE.split('/')
  const [namespace = '', ...rest] = inNamespace.split('.')
  await applyAll(lab, [
    namespaceManifest(ISSUERS_NAMESPACE, false),
    namespaceManifest(namespace, false),
    secret(ISSUERS_NAMESPACE, 'root', root),
    secret(ISSUERS_NAMESPACE, 'stranger', stranger),
    secret(namespace, 'root', root),
    issuer('ClusterIssuer', { name: nameOf(OF_CLUSTER) }, 'root'),
    issuer('ClusterIssuer', { name: nameOf(UNTRUSTED) }, 'stranger'),
    issuer('Issuer', { namespace, name: rest.join('.') }, 'root'),
  ])
  const ready = ['--for=condition=Ready', '--timeout=60s']
  await lab.kubectl('wait', 'clusterissuers', '--all', ...ready)
  await lab.kubectl('wait', 'issuers', '--all', '-n', namespace, ...ready)
}

function nameOf(signer: string): string {
  return signer.split('/')[1] ?? ''
}

/** How long certificates are to live. */
async function setTtl(lab: Lab): Promise<void> {
  const env = [{ name: 'SECRET_TTL', value: `${TTL_S}s` }]
  await patchProgram(lab, 'daemonset/ambit-agent', 'agent', env)
}

async function patchProgram(
  lab: Lab,
  what: string,
  name: string,
  env: readonly object[],
): Promise<void> {
  const spec = { template: { spec: { containers: [{ name, env }] } } }
  const of = `-n${MESH_NAMESPACE}`
  await lab.kubectl('patch', what, of, `-p=${JSON.stringify({ spec })}`)
  await lab.kubectl('rollout', 'status', what, of, '--timeout=120s')
}

/** Has the mesh trust these roots beside its own; resolves when what is held for the shop was asked for since. */
async function trust(lab: Lab, roots: readonly TestCa[]): Promise<void> {
  const name = { namespace: MESH_NAMESPACE, name: 'ambit-ca-secret' }
  const { data: fields = {} } = await objectOf(lab, SECRETS, `${MESH_NAMESPACE}/${name.name}`)
  const own = Buffer.from(fields['ca-cert.pem'] ?? '', 'base64').toString('utf8')
  const all = [own, ...roots.map(({ pem }) => pem)]
  const data = { 'root-cert.pem': Buffer.from(all.join('\n')).toString('base64') }
  const patched = await lab.api.patch(SECRETS, name, { data }, { type: 'merge' })
  if (!patched.ok) throw new Error(patched.error.message)
  await lab.waitFor('certificates that come with these roots', async () => {
    const shop = (await dumped(lab)).filter(({ identity }) => identity.includes('/ns/shop/'))
    const isDone =
      shop.length === 2 && shop.every(({ rootCerts }) => rootCerts.length === all.length)
    return isDone ? true : undefined
  })
}

/** Sets the signer, with the rights that the chart gives for it. */
async function signBy(lab: Lab, signer: string): Promise<void> {
  const { objects } = await renderChart(
    { controller: { certificateSigner: signer } },
    { namespace: MESH_NAMESPACE },
  )
  const roles = objects.filter(({ kind, name }) => kind === 'ClusterRole' && name === CONTROLLER)
  await applyAll(
    lab,
    roles.map(({ object }) => object),
  )
  await setSigner(lab, signer)
}

async function setSigner(lab: Lab, signer: string): Promise<void> {
  const env = [{ name: 'AMBIT_CERTIFICATE_SIGNER', value: signer }]
  await patchProgram(lab, `deployment/${CONTROLLER}`, 'controller', env)
  // The one before signs by its own signer until its last agent has turned to another.
  await lab.waitFor('the end of the controller before it', async () => {
    const pods = await objectsIn(lab, PODS, MESH_NAMESPACE, `app=${CONTROLLER}`)
    return pods.length === 1 ? true : undefined
  })
}

/** A pod with an account of its own, in the mesh. */
async function newcomer(lab: Lab, name: string): Promise<void> {
  await applyAll(lab, [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { namespace: 'shop', name } },
    serverManifest({ namespace: 'shop', name, node: 'node-a', spec: { serviceAccountName: name } }),
  ])
  await lab.waitForPods('shop')
  await waitForCapture(lab, 'shop', true)
}

/** So many accounts of one node, each with a pod. */
function crowd(): readonly object[] {
  return Array.from({ length: CROWD }, (_, index) => `account-${index}`).flatMap((name) => [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { namespace: 'crowd', name } },
    serverManifest({
      namespace: 'crowd',
      name,
      node: 'node-a',
      command: ['sleep', 'infinity'],
      spec: { serviceAccountName: name },
    }),
  ])
}

/** Exit code of a call of the catalog. */
async function curl(lab: Lab, name: string): Promise<number | undefined> {
  const argv = ['curl', '-sS', '-f', '-m', '20', CATALOG]
  return (await lab.exec(`shop/${name}`, argv, { timeoutMs: 60_000 })).code ?? undefined
}

function isOf(account: string): (line: AccessLine) => boolean {
  const identity = `${ACCOUNTS}/shop/sa/${account}`
  return (line) => line.direction === 'inbound' && line['src.identity'] === identity
}

async function dumped(lab: Lab): Promise<readonly Dumped[]> {
  return JSON.parse(await ambit(lab, 'certs', '-o', 'json')) as readonly Dumped[]
}

/** What agents hold for an account. */
async function held(lab: Lab, namespace: string, account: string): Promise<readonly Dumped[]> {
  const identity = `${ACCOUNTS}/${namespace}/sa/${account}`
  return (await dumped(lab)).filter((each) => each.identity === identity)
}

function isBelow({ certChain: [leaf] }: Dumped, root: string): boolean {
  return (
    leaf !== undefined && new X509Certificate(Buffer.from(leaf.pem, 'base64')).issuer.includes(root)
  )
}

/** A request goes when it is answered, whatever the answer. */
async function nothingIsLeft(t: Test, lab: Lab): Promise<void> {
  const left = await lab.waitFor('no request to be left', async () => {
    const found = await lab.api.list(CERTIFICATE_SIGNING_REQUESTS)
    return found.ok && found.value.items.length === 0 ? found.value.items : undefined
  })
  t.strictSame(left, [], 'no request is left')
}
