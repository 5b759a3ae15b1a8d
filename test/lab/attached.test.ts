// SPDX-License-Identifier: Apache-2.0
// A lab against a real API server, as far as it needs neither root nor a lab: what is copied of a kubeconfig, what is
// found out about a cluster and refused, and how the cluster is mirrored. The API server is the lab's own, over HTTPS.

import t from 'tap'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { makeServerCertificate } from '../../lab/machine/server-certificate.ts'
import { type ApiServer, startApiServer } from '../../lab/kubernetes/own/apiserver/index.ts'
import { kubeconfigText } from '../../lab/kubernetes/objects/kubeconfig-text.ts'
import type { StoredObject } from '../../lab/kubernetes/objects/stored-object.ts'
import { copyKubeconfig } from '../../lab/kubernetes/real/kubeconfig.ts'
import { mirrorCluster } from '../../lab/kubernetes/real/mirror.ts'
import { type AttachOptions, planAttachment } from '../../lab/kubernetes/real/plan.ts'
import { removeFromCluster } from '../../lab/kubernetes/real/removal.ts'
import { RUN_LABEL } from '../../lab/kubernetes/objects/lab-marks.ts'
import { absentKinds } from '../../lab/cluster/mesh.ts'
import { overlaps } from '../../lab/kubernetes/real/preflight.ts'
import { reachableSlice } from '../../lab/kubernetes/real/reachable.ts'
import { isSelected, isTolerated } from '../../lab/kubernetes/own/controllers/placement.ts'
import { AmbitError, type ErrorCode } from '../../mesh/errors.ts'
import { loadKubeConfig } from '../../mesh/kube/access.ts'
import { createKubeApi } from '../../mesh/kube/api.ts'
import { AUTHORIZATION_POLICIES, defineResource, NAMESPACES } from '../../mesh/kube/resources.ts'
import type { Result } from '../../mesh/result.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'

const LAB = { name: 'ours', nodes: ['node-a'], exclusive: [] }
const DEFINITIONS = defineResource(
  'apiextensions.k8s.io',
  'v1',
  'customresourcedefinitions',
  'CustomResourceDefinition',
  'cluster',
)
const logger = createLogger('test', 'silent')

const directory = mkdtempSync(join(tmpdir(), 'ambit-attached-'))
t.teardown(() => rmSync(directory, { recursive: true, force: true }))
let files = 0

/** Writes a file into the test's directory and gives its path. */
function file(content: string): string {
  files += 1
  const path = join(directory, `file-${files}`)
  writeFileSync(path, content)
  return path
}

/** An API server on loopback without any controllers, and a kubeconfig for it. */
async function bareServer(
  t: Tap,
): Promise<{ readonly server: ApiServer; readonly url: string; readonly kubeconfig: string }> {
  const server = await startApiServer()
  t.teardown(async () => await server.close())
  const { port } = await server.listen('127.0.0.1', 0)
  const url = `https://127.0.0.1:${port}`
  return { server, url, kubeconfig: file(server.kubeconfig({ server: url })) }
}
type Tap = Pick<typeof t, 'teardown'>

/** What planning says: the error's code and message, or nothing. */
async function refusal(
  options: AttachOptions,
  lab: Parameters<typeof planAttachment>[1] = LAB,
): Promise<{ readonly code?: ErrorCode; readonly message?: string }> {
  try {
    await planAttachment(options, lab)
    return {}
  } catch (error) {
    if (!(error instanceof AmbitError)) throw error
    return { code: error.code, message: error.message }
  }
}

await t.test(
  'a definition that the lab made stays when somebody else has objects of its kind; else it goes',
  async (t) => {
    const { kubeconfig, url } = await bareServer(t)
    const access = await loadKubeConfig({ kubeconfig })
    if (!access.ok) throw access.error
    const api = createKubeApi(access.value)
    const must = <T>(result: Result<T, { readonly message: string }>): T => {
      if (!result.ok) throw new Error(result.error.message)
      return result.value
    }
    const runId = 'a1b2c3'
    const labels = { [RUN_LABEL]: runId }
    const kinds = await absentKinds(api)
    const definitions = kinds.map(({ object, name }) => ({ ...object, metadata: { name, labels } }))
    for (const object of definitions) must(await api.create(DEFINITIONS, object))
    const policy = (namespace: string, name: string, marks = {}) => ({
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { namespace, name, labels: marks },
      spec: {},
    })
    for (const name of ['default', 'bank']) await api.create(NAMESPACES, { metadata: { name } })
    must(await api.create(AUTHORIZATION_POLICIES, policy('default', 'ours', labels)))
    must(await api.create(AUTHORIZATION_POLICIES, policy('bank', 'theirs')))
    const state = {
      server: url,
      context: 'lab',
      runId,
      parts: { scheduler: false, manager: false },
      made: [
        ...kinds.map(({ name }) => ({ resource: DEFINITIONS, name })),
        { resource: AUTHORIZATION_POLICIES, namespace: 'default', name: 'ours' },
      ],
    }
    const { leftovers } = await removeFromCluster(kubeconfig, state, [])
    t.match(leftovers, [
      /^CustomResourceDefinition authorizationpolicies\.security\.istio\.io stays, .*\(bank\/theirs\): .*kubectl delete crd/,
    ])
    const left = must(await api.list(AUTHORIZATION_POLICIES))
    t.same(
      left.items.map(({ metadata }) => metadata?.name),
      ['theirs'],
    )
    const peers = await api.get(DEFINITIONS, { name: 'peerauthentications.security.istio.io' })
    t.equal(peers.ok, false, 'that of which nobody has objects is gone')
    must(await api.delete(AUTHORIZATION_POLICIES, { namespace: 'bank', name: 'theirs' }))
    t.same((await removeFromCluster(kubeconfig, state, [])).leftovers, [])
    t.same(must(await api.list(DEFINITIONS)).items, [])
  },
)

await t.test('what is wrong with a kubeconfig or its server is one coded sentence', async (t) => {
  const { server, url, kubeconfig } = await bareServer(t)
  const other = await makeServerCertificate(['127.0.0.1'])
  const text = (change: Partial<Parameters<typeof kubeconfigText>[0]>): string =>
    file(
      kubeconfigText({
        server: url,
        caPem: server.caPem,
        token: server.adminToken,
        name: 'x',
        ...change,
      }),
    )
  const notKubernetes = await httpsServer(t, (_request, response) => response.end('<html>'))
  const old = await httpsServer(t, (_request, response) =>
    response.end(JSON.stringify({ major: '1', minor: '20+', gitVersion: 'v1.20.4-eks' })),
  )
  const closed = http.createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => closed.once('listening', resolve))
  const closedPort = (closed.address() as AddressInfo).port
  await new Promise((resolve) => closed.close(resolve))

  const cases: readonly (readonly [string, AttachOptions, ErrorCode, RegExp])[] = [
    ['no file', { kubeconfig: '/none/kubeconfig' }, 'AMB_KUBECONFIG', /\/none\/kubeconfig: ENOENT/],
    ['no YAML', { kubeconfig: file('a: [') }, 'AMB_KUBECONFIG', /not valid YAML/],
    [
      'no JSON',
      { kubeconfig: file(`{"token": "${server.adminToken}" oops}`) },
      'AMB_KUBECONFIG',
      /not valid YAML/,
    ],
    ['no mapping', { kubeconfig: file('just words') }, 'AMB_KUBECONFIG', /not a mapping/],
    ['empty', { kubeconfig: file('') }, 'AMB_KUBECONFIG', /not a mapping/],
    ['unknown context', { kubeconfig, context: 'nope' }, 'AMB_KUBECONFIG', /no entry named "nope"/],
    [
      'plain HTTP',
      { kubeconfig: text({ server: url.replace('https', 'http') }) },
      'AMB_KUBECONFIG',
      /must be an https URL/,
    ],
    [
      'a proxy',
      {
        kubeconfig: file(
          readFileSync(kubeconfig, 'utf8').replace(
            'cluster:\n',
            'cluster:\n      proxy-url: http://127.0.0.1:1\n',
          ),
        ),
      },
      'AMB_KUBECONFIG',
      /proxy-url is not supported/,
    ],
    [
      'nobody listens',
      { kubeconfig: text({ server: `https://127.0.0.1:${closedPort}` }) },
      'AMB_KUBE_API',
      /ECONNREFUSED/,
    ],
    ['wrong token', { kubeconfig: text({ token: 'wrong' }) }, 'AMB_KUBE_AUTH', /Unauthorized/],
    [
      'another authority',
      { kubeconfig: text({ caPem: other.caPem }) },
      'AMB_KUBE_TLS',
      /Cannot use API server .*: /,
    ],
    [
      'no Kubernetes',
      { kubeconfig: text(notKubernetes) },
      'AMB_KUBE_API',
      /JSON|no Kubernetes API/,
    ],
    [
      'too old',
      { kubeconfig: text(old) },
      'AMB_KUBE_VERSION',
      /it is Kubernetes v1\.20\.4-eks; a lab needs 1\.23/,
    ],
  ]
  for (const [what, options, code, message] of cases) {
    const said = await refusal(options)
    t.equal(said.code, code, what)
    t.match(said.message, message, what)
    t.notMatch(said.message, server.adminToken, `${what}: no secret is told`)
    t.notMatch(said.message, '\n', `${what}: one line`)
  }
})

await t.test(
  'credentials may come from a plugin, whose path is relative to the kubeconfig',
  async (t) => {
    const { server, kubeconfig } = await bareServer(t)
    const credential = JSON.stringify({
      apiVersion: 'client.authentication.k8s.io/v1',
      kind: 'ExecCredential',
      status: { token: server.adminToken },
    })
    const plugin = file(`#!/bin/sh\necho '${credential}'\n`)
    chmodSync(plugin, 0o700)
    const exec = (command: string): string =>
      file(
        readFileSync(kubeconfig, 'utf8').replace(
          /token: .*/,
          `exec: { apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: ${command} }`,
        ),
      )
    t.strictSame(await refusal({ kubeconfig: exec(`./${basename(plugin)}`) }), {})
    t.match(await refusal({ kubeconfig: exec('./none') }), {
      code: 'AMB_KUBE_API',
      message: new RegExp(`spawn ${directory}/none ENOENT`),
    })
  },
)

await t.test('the server may be known by another name than that of its URL', async (t) => {
  const { server, url } = await bareServer(t)
  const byName = async (name: string): Promise<ErrorCode | undefined> => {
    const text = server.kubeconfig({ server: url.replace('127.0.0.1', 'localhost') })
    const kubeconfig = file(
      text.replace('cluster:\n', `cluster:\n      tls-server-name: ${name}\n`),
    )
    return (await refusal({ kubeconfig })).code
  }
  t.equal(await byName('kubernetes.default'), undefined)
  t.equal(await byName('127.0.0.1'), undefined, 'or by an address, as kubectl takes it')
  t.equal(await byName('192.0.2.9'), 'AMB_KUBE_TLS')
})

/** A server that is no lab API server, with a certificate that its kubeconfig trusts. */
async function httpsServer(
  t: Tap,
  handle: http.RequestListener,
): Promise<{ readonly server: string; readonly caPem: string }> {
  const { certificatePem, privateKeyPem, caPem } = await makeServerCertificate(['127.0.0.1'])
  const server = createServer({ cert: certificatePem, key: privateKeyPem }, handle)
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  server.listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  return { server: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, caPem }
}

await t.test('what is in the way in a cluster is named', async (t) => {
  const { server, kubeconfig } = await bareServer(t)
  const { api } = server
  const exclusive = [{ resource: NAMESPACES, name: 'ambit-system' }]
  t.strictSame(await refusal({ kubeconfig }, { ...LAB, exclusive }), {})

  const root = { metadata: { name: 'istio-ca-root-cert' } }
  api.create('configmaps', 'kube-public', root)
  t.match(await refusal({ kubeconfig }, { ...LAB, exclusive }), {
    code: 'AMB_LAB_CLASH',
    message: /a mesh of its own: ConfigMap kube-public\/istio-ca-root-cert/,
  })
  t.strictSame(await refusal({ kubeconfig }), {}, 'which is no matter without a mesh')
  api.delete('configmaps', 'kube-public', 'istio-ca-root-cert')

  api.create('namespaces', undefined, { metadata: { name: 'ambit-system' } })
  t.match(await refusal({ kubeconfig }, { ...LAB, exclusive }), {
    code: 'AMB_LAB_CLASH',
    message: /a Namespace "ambit-system" already/,
  })
  api.create('nodes', undefined, { metadata: { name: 'node-a' } })
  t.match(await refusal({ kubeconfig }), {
    code: 'AMB_LAB_CLASH',
    message: /a node "node-a" already/,
  })
  api.patch('nodes', undefined, 'node-a', {
    type: 'merge',
    body: { metadata: { labels: { 'lab.ambit.dev/name': 'theirs', 'lab.ambit.dev/run': '12ab' } } },
  })
  t.match(
    (await refusal({ kubeconfig })).message,
    /of a lab named "theirs" \(label lab\.ambit\.dev\/run=12ab\)/,
  )
  api.delete('nodes', undefined, 'node-a')
  const addNode = (name: string, podCIDR: string): void => {
    api.create('nodes', undefined, { metadata: { name }, spec: { podCIDR } })
  }
  const podNet = async (): Promise<number> =>
    (await planAttachment({ kubeconfig }, LAB)).facts.podNet
  t.equal(await podNet(), 244)
  addNode('worker', '10.244.3.0/24')
  t.equal(await podNet(), 245, 'the pods of a lab are out of the way of those of the cluster')
  addNode('wide', '10.0.0.0/8')
  t.match(await refusal({ kubeconfig }), {
    code: 'AMB_LAB_CLASH',
    message: /use all that a lab can/,
  })
  api.delete('nodes', undefined, 'wide')
  addNode('fabric', '172.30.0.0/16')
  t.match(await refusal({ kubeconfig }), {
    code: 'AMB_LAB_CLASH',
    message: /its range 172\.30\.0\.0\/16 overlaps with the lab's own network 172\.30\.0\.0\/24/,
  })
})

await t.test(
  "controllers and scheduler are the cluster's own while their leases are fresh, each for itself",
  async (t) => {
    const { server, kubeconfig } = await bareServer(t)
    const lease = (name: string, ageSeconds: number, holderIdentity: string): void => {
      const renewTime = new Date(Date.now() - ageSeconds * 1000).toISOString().replace('Z', '000Z')
      const spec = { holderIdentity, leaseDurationSeconds: 15, renewTime }
      server.api.delete('leases.coordination.k8s.io', 'kube-system', name)
      server.api.create('leases.coordination.k8s.io', 'kube-system', { metadata: { name }, spec })
    }
    const parts = async (controllers?: AttachOptions['controllers']): Promise<unknown> =>
      (await planAttachment({ kubeconfig, controllers }, LAB)).state.parts
    t.strictSame(await parts(), { manager: true, scheduler: true }, 'no leases')
    lease('kube-controller-manager', 5, 'master-1')
    t.strictSame(await parts(), { manager: false, scheduler: true }, 'one is fresh')
    lease('kube-scheduler', 5, 'master-1')
    t.strictSame(await parts(), { manager: false, scheduler: false }, 'both are')
    lease('kube-controller-manager', 60, 'master-1')
    t.strictSame(await parts(), { manager: true, scheduler: false }, 'one ran out')
    lease('kube-scheduler', 1, '')
    t.strictSame(await parts(), { manager: true, scheduler: true }, 'the other was given up')
    t.strictSame(
      await parts('cluster'),
      { manager: false, scheduler: false },
      'a person knows better',
    )
  },
)

await t.test(
  'nodes are tainted when the cluster has others, unless a person says otherwise',
  async (t) => {
    const { server, kubeconfig } = await bareServer(t)
    const isTainted = async (taint?: boolean): Promise<boolean> =>
      (await planAttachment({ kubeconfig, taint }, LAB)).isTainted
    t.equal(await isTainted(), false)
    t.equal(await isTainted(true), true)
    server.api.create('nodes', undefined, { metadata: { name: 'worker' } })
    t.equal(await isTainted(), true)
    t.equal(await isTainted(false), false)
  },
)

await t.test(
  'the copy of a kubeconfig holds one context and works from another directory',
  async (t) => {
    const caFile = file('a certificate')
    const name = caFile.slice(directory.length + 1)
    const kubeconfig = file(`
current-context: first
contexts:
  - { name: first, context: { cluster: a, user: alice } }
  - { name: second, context: { cluster: b, user: bob, namespace: shop } }
clusters:
  - { name: a, cluster: { server: 'https://a.test' } }
  - { name: b, cluster: { server: 'https://b.test:6443/', certificate-authority: ${name} } }
users:
  - { name: alice, user: { token: secret-of-alice } }
  - name: bob
    user:
      tokenFile: tokens/bob
      exec: { apiVersion: client.authentication.k8s.io/v1, command: ./bin/login, args: [x] }
`)
    const copy = await copyKubeconfig({ kubeconfig, context: 'second' })
    t.match(copy, { server: 'https://b.test:6443', context: 'second', caPem: 'a certificate' })
    t.notMatch(copy.content, 'secret-of-alice')
    t.match(copy.content, `certificate-authority: ${caFile}`)
    t.match(copy.content, `tokenFile: ${join(directory, 'tokens/bob')}`)
    t.match(copy.content, `command: ${join(directory, 'bin/login')}`)
    t.equal((await copyKubeconfig({ kubeconfig })).context, 'first')
  },
)

await t.test('overlaps() compares ranges and addresses of one family', (t) => {
  const cases: readonly (readonly [string, string, boolean])[] = [
    ['10.244.0.0/16', '10.244.7.0/24', true],
    ['10.244.7.0/24', '10.0.0.0/8', true],
    ['10.244.0.0/16', '10.245.0.0/16', false],
    ['172.30.0.0/24', '172.30.0.1', true],
    ['172.30.0.0/24', '172.30.1.1', false],
    ['fd98:244::/32', 'fd98:244:1::5', true],
    ['fd98:244::/32', '10.244.0.0/16', false],
  ]
  for (const [one, other, expected] of cases) {
    t.equal(overlaps(one, other), expected, `${one} and ${other}`)
    t.equal(overlaps(other, one), expected, `${other} and ${one}`)
  }
  t.end()
})

await t.test(
  'endpoints of other nodes are out of reach, and the API server is behind the gateway',
  (t) => {
    const slice = (
      service: string,
      namespace: string,
      endpoints: readonly object[],
    ): StoredObject => ({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        name: service,
        namespace,
        uid: '1',
        resourceVersion: '1',
        creationTimestamp: '',
        labels: { 'kubernetes.io/service-name': service },
      },
      addressType: 'IPv4',
      ports: [{ name: 'https', port: 8443 }],
      endpoints,
    })
    const endpoints = [
      { addresses: ['10.244.0.2'], nodeName: 'node-a' },
      { addresses: ['10.1.0.9'], nodeName: 'worker' },
      { addresses: ['192.0.2.7'] },
    ]
    const nodes = new Set(['node-a'])
    t.strictSame(reachableSlice(slice('web', 'shop', endpoints), nodes)['endpoints'], [
      endpoints[0],
      endpoints[2],
    ])
    t.match(reachableSlice(slice('kubernetes', 'default', [{ addresses: ['192.0.2.1'] }]), nodes), {
      ports: [{ name: 'https', port: 6443 }],
      endpoints: [{ addresses: ['172.30.0.2'] }],
    })
    t.end()
  },
)

await t.test('the mirror shows a write at once, and old news never undo it', async (t) => {
  const { server, kubeconfig } = await bareServer(t)
  const access = await loadKubeConfig({ kubeconfig })
  if (!access.ok) throw access.error
  const mirror = mirrorCluster(createKubeApi(access.value), logger)
  t.teardown(async () => await mirror.close())
  await mirror.synced(['configmaps', 'pods', 'nodes'])
  const seen: string[] = []
  mirror.watch('configmaps', { namespace: 'default' }, ({ type, object }) => {
    seen.push(`${type} ${object.metadata.name} ${JSON.stringify(object['data'] ?? {})}`)
  })
  for (let round = 0; round < 20; round += 1) {
    const made = await mirror.create('configmaps', 'default', {
      metadata: { name: 'a' },
      data: { round: '1' },
    })
    t.ok(made.ok && mirror.get('configmaps', 'default', 'a').ok)
    const changed = await mirror.patch('configmaps', 'default', 'a', {
      type: 'merge',
      body: { data: { round: '2' } },
    })
    t.match(mirror.get('configmaps', 'default', 'a'), { value: { data: { round: '2' } } })
    t.ok(changed.ok)
    t.ok((await mirror.delete('configmaps', 'default', 'a')).ok)
    t.notOk(mirror.get('configmaps', 'default', 'a').ok)
  }
  t.equal(seen.length, 60)
  t.strictSame(
    new Set(seen),
    new Set(['ADDED a {"round":"1"}', 'MODIFIED a {"round":"2"}', 'DELETED a {"round":"2"}']),
  )
  t.match(await mirror.delete('configmaps', 'default', 'a'), { ok: false, error: { status: 404 } })

  server.api.create('pods', 'default', {
    metadata: { name: 'p' },
    spec: { containers: [{ name: 'c', image: 'host', command: ['true'] }] },
  })
  t.ok((await mirror.bindPod('default', 'p', 'node-a')).ok)
  t.match(server.api.get('pods', 'default', 'p'), { value: { spec: { nodeName: 'node-a' } } })
})

await t.test('an owner is gone only when the server says so', async (t) => {
  const { server, kubeconfig } = await bareServer(t)
  const access = await loadKubeConfig({ kubeconfig })
  if (!access.ok) throw access.error
  const mirror = mirrorCluster(createKubeApi(access.value), logger)
  t.teardown(async () => await mirror.close())
  const made = server.api.create('configmaps', 'default', { metadata: { name: 'owner' } })
  const uid = made.ok ? made.value.metadata.uid : ''
  const owner = { apiVersion: 'v1', kind: 'ConfigMap', name: 'owner', uid }
  t.equal(await mirror.isGone(owner, 'default'), false)
  t.equal(await mirror.isGone({ ...owner, uid: 'another' }, 'default'), true)
  t.equal(await mirror.isGone({ ...owner, name: 'never' }, 'default'), true)
  t.equal(
    await mirror.isGone({ ...owner, kind: 'Unknown' }, 'default'),
    false,
    'a kind nobody knows',
  )
})

await t.test('a pod goes only where its words and the taints let it', (t) => {
  const node = (labels: { [key: string]: string }, taints: readonly object[] = []): StoredObject =>
    ({ metadata: { name: 'node-a', labels }, spec: { taints } }) as unknown as StoredObject
  const affinity = (term: object): object => ({
    affinity: {
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [term] },
      },
    },
  })
  const byName = (name: string): object =>
    affinity({ matchFields: [{ key: 'metadata.name', operator: 'In', values: [name] }] })
  const rule = (operator: string, values?: readonly string[]): object =>
    affinity({ matchExpressions: [{ key: 'zone', operator, values }] })
  const west = node({ zone: 'west', size: '5' })
  t.equal(isSelected({}, west), true)
  t.equal(isSelected({ nodeSelector: { zone: 'east' } }, west), false)
  t.equal(isSelected({ nodeSelector: { 'kubernetes.io/hostname': 'node-a' } }, west), true)
  t.equal(isSelected(byName('node-a'), west), true, 'as DaemonSets ask')
  t.equal(isSelected(byName('node-b'), west), false)
  t.equal(isSelected(rule('In', ['west', 'north']), west), true)
  t.equal(isSelected(rule('NotIn', ['west']), west), false)
  t.equal(isSelected(rule('Exists'), west), true)
  t.equal(isSelected(rule('DoesNotExist'), west), false)
  t.equal(
    isSelected(
      affinity({ matchExpressions: [{ key: 'size', operator: 'Gt', values: ['4'] }] }),
      west,
    ),
    true,
  )

  const taint = { key: 'lab', value: 'x', effect: 'NoSchedule' }
  const kept = node({}, [taint])
  t.equal(isTolerated({}, kept), false)
  t.equal(isTolerated({}, node({}, [{ ...taint, effect: 'PreferNoSchedule' }])), true)
  t.equal(isTolerated({ tolerations: [{ operator: 'Exists' }] }, kept), true)
  t.equal(isTolerated({ tolerations: [{ key: 'lab', operator: 'Exists' }] }, kept), true)
  t.equal(isTolerated({ tolerations: [{ key: 'lab', value: 'x' }] }, kept), true)
  t.equal(isTolerated({ tolerations: [{ key: 'lab', value: 'y' }] }, kept), false)
  t.equal(
    isTolerated({ tolerations: [{ key: 'lab', operator: 'Exists', effect: 'NoExecute' }] }, kept),
    false,
  )
  const notReady = node({}, [{ key: 'node.kubernetes.io/not-ready', effect: 'NoSchedule' }])
  t.equal(isTolerated({}, notReady), false)
  t.equal(isTolerated({}, notReady, true), true, 'pods of DaemonSets stay through bad times')
  t.end()
})
