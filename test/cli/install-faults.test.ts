// SPDX-License-Identifier: Apache-2.0
// Installing, verifying and uninstalling where something is amiss: a server that fails midway, what others have made, what earlier
// installations have left.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { install, type InstallOptions } from '../../cli/install/install.ts'
import { Journal } from '../../cli/install/journal.ts'
import {
  installObjects,
  type InstallObject,
  policyKinds,
  valuesOf,
} from '../../cli/install/objects.ts'
import { preflight } from '../../cli/install/preflight.ts'
import { requireNoOther, storedInstallation } from '../../cli/install/stored-values.ts'
import { uninstall } from '../../cli/install/uninstall.ts'
import { verify, verifyOthers } from '../../cli/install/verify.ts'
import type { Values } from '../../daemonset/render/values.ts'
import {
  CONFIG_MAPS,
  createKubeApi,
  DAEMON_SETS,
  defineResource,
  DEPLOYMENTS,
  EVENTS,
  type KubeApi,
  type KubeObject,
  NAMESPACES,
  NODES,
  PODS,
  SECRETS,
  SERVICES,
} from '../../mesh/kube/index.ts'
import { ROOT_LABEL } from '../../mesh/model/names.ts'
import { expectOk } from '../controller/small-cluster.ts'
import { FaultyApi } from '../support/faulty-api.ts'

const NAMESPACE = 'ambit-system'
const BUDGETS = defineResource('policy', 'v1', 'poddisruptionbudgets', 'PodDisruptionBudget')
const BINDINGS = defineResource<KubeObject & { subjects?: object[] }>(
  'rbac.authorization.k8s.io',
  'v1',
  'clusterrolebindings',
  'ClusterRoleBinding',
  'cluster',
)
const AGENTS = { namespace: NAMESPACE, name: 'ambit-agent' }
const CONTROLLERS = { namespace: NAMESPACE, name: 'ambit-controller' }

async function cluster(t: Test): Promise<{ readonly server: FaultyApi; readonly api: KubeApi }> {
  const server = new FaultyApi()
  await server.start()
  t.teardown(() => server.stop())
  return { server, api: createKubeApi(server.access(server.adminToken)) }
}

async function plan(given: Values = {}): Promise<Parameters<typeof install>[1]> {
  const { objects, used } = await installObjects(given, NAMESPACE)
  return { namespace: NAMESPACE, objects, given, used }
}

/** Options of an installation; with what the cluster's own controllers say as soon as the workloads are there. */
function telling(
  server: FaultyApi | undefined,
  change: Partial<InstallOptions> = {},
): { readonly lines: string[]; readonly options: InstallOptions } {
  const lines: string[] = []
  const report = (line: string): void => {
    lines.push(line)
    if (server === undefined || !/^ConfigMap .*ambit-values (created|changed|unchanged)/.test(line))
      return
    for (const [resource, key, status] of [
      [DAEMON_SETS, `${NAMESPACE}/ambit-agent`, AGENTS_READY],
      [DEPLOYMENTS, `${NAMESPACE}/ambit-controller`, CONTROLLERS_READY],
    ] as const) {
      const found = server.get(resource, key)
      const observedGeneration = found?.metadata?.generation
      if (found !== undefined)
        server.put(resource, { ...found, status: { ...status, observedGeneration } } as KubeObject)
    }
  }
  const usual = { timeoutMs: 60_000, isDryRun: false, ignoresPreflight: false }
  return { lines, options: { ...usual, report, ...change } }
}

const AGENTS_READY = { desiredNumberScheduled: 2, updatedNumberScheduled: 2, numberReady: 2 }
const CONTROLLERS_READY = { replicas: 2, updatedReplicas: 2, readyReplicas: 2 }

const configMap = (name: string, data: Record<string, string>): InstallObject => ({
  resource: CONFIG_MAPS,
  target: { namespace: 'default', name },
  object: {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { namespace: 'default', name },
    data,
  } as KubeObject,
  title: `ConfigMap default/${name}`,
})

const quiet = { report: () => undefined }

await t.test('a server that fails for a moment, at any step, ends no installation', async (t) => {
  const { server, api } = await cluster(t)
  const { lines, options } = telling(server)
  server.fail('PATCH', /\/services\/ambit-controller/, 1, 429, 'TooManyRequests')
  server.fail('PATCH', /\/clusterroles\/ambit-agent/, 1, 409, 'Conflict')
  server.fail('PATCH', /\/configmaps\/ambit-values/, 1, (_, response) => response.destroy())
  server.fail('GET', /\/pods\?labelSelector=app\+in/, 1, 503, 'ServiceUnavailable')
  await install(api, await plan(), options)
  t.equal(lines.filter((line) => line.endsWith(': trying again')).length, 4, lines.join('\n'))
  t.ok((await api.get(DAEMON_SETS, AGENTS)).ok)
})

await t.test('what was made although its answer was lost is taken back, too', async (t) => {
  const { server, api } = await cluster(t)
  const lost = configMap('lost', { a: '1' })
  const journal = new Journal()
  server.fail('PATCH', /\/configmaps\/lost/, 1, (_, response) => {
    const applying = { type: 'apply', fieldManager: 'ambit-install' } as const
    void api.patch(lost.resource, lost.target, lost.object, applying).then(() => response.destroy())
  })
  await t.rejects(journal.apply(api, lost), { code: 'AMB_KUBE_API' })
  t.ok((await api.get(lost.resource, lost.target)).ok)
  t.strictSame(await journal.rollBack(api, quiet), [])
  t.notOk((await api.get(lost.resource, lost.target)).ok)

  await t.test('and what somebody else has made in between is not', async (t) => {
    const theirs = configMap('theirs', { a: '1' })
    server.fail('PATCH', /\/configmaps\/theirs/, 1, (_, response) => response.destroy())
    const journal = new Journal()
    await t.rejects(journal.apply(api, theirs), { code: 'AMB_KUBE_API' })
    expectOk(await api.create(theirs.resource, theirs.object))
    t.strictSame(await journal.rollBack(api, quiet), [])
    t.ok((await api.get(theirs.resource, theirs.target)).ok)
  })
})

await t.test('what was changed is restored by the version that stands there', async (t) => {
  const { server, api } = await cluster(t)
  const { resource, target, object } = configMap('changed', { mine: 'yes' })
  expectOk(await api.create(resource, object))
  const journal = new Journal()
  t.equal(await journal.apply(api, configMap('changed', { mine: 'no' })), 'changed')
  server.fail('PUT', /\/configmaps\/changed/, 1, 409, 'Conflict')
  t.strictSame(await journal.rollBack(api, quiet), [])
  t.match(expectOk(await api.get(resource, target)), { data: { mine: 'yes' } })
  const put = server.requests.findLast(({ method }) => method === 'PUT')
  t.match(put?.body, /"resourceVersion":"\d+"/, 'some kinds are replaced in no other way')
})

await t.test('a server that is gone for good is not asked again for each object', async (t) => {
  const { server, api } = await cluster(t)
  const journal = new Journal()
  for (const name of ['one', 'two', 'three']) await journal.apply(api, configMap(name, {}))
  server.fail('GET', /\/configmaps\//, Infinity, 503)
  const before = server.requests.length
  t.match(await journal.rollBack(api, quiet), [
    /^ConfigMap default\/three: .*HTTP 503/,
    'ConfigMap default/two',
    'ConfigMap default/one',
  ])
  t.equal(server.requests.length, before + 1)
})

await t.test('what the controller of a failed installation has made goes with it', async (t) => {
  const { server, api } = await cluster(t)
  const root = (namespace: string): KubeObject => ({
    metadata: { namespace, name: 'istio-ca-root-cert', labels: { [ROOT_LABEL]: 'published' } },
  })
  expectOk(await api.create(NAMESPACES, { metadata: { name: 'old' } }))
  // Of an installation before, which nobody has asked to take away.
  expectOk(await api.create(CONFIG_MAPS, root('old')))
  const made: KubeObject[] = [
    { metadata: { ...root('default').metadata } },
    { metadata: { namespace: NAMESPACE, name: 'ambit-ca-secret' } },
  ]
  const { lines, options } = telling(undefined, { timeoutMs: 1 })
  const report = (line: string): void => {
    options.report(line)
    if (!line.startsWith('Deployment ') || !line.endsWith('created')) return
    const [bundle, secret] = made
    if (bundle !== undefined) server.put(CONFIG_MAPS, bundle)
    if (secret !== undefined) server.put(SECRETS, secret)
  }
  expectOk(await api.create(NAMESPACES, { metadata: { name: NAMESPACE } }))
  await t.rejects(install(api, await plan(), { ...options, report }), {
    code: 'AMB_INSTALL',
    message: /not ready.*; everything is as it was before/,
  })
  t.ok(lines.includes('ConfigMap default/istio-ca-root-cert removed'), lines.join('\n'))
  t.ok(lines.includes(`Secret ${NAMESPACE}/ambit-ca-secret removed`))
  t.ok((await api.get(CONFIG_MAPS, { namespace: 'old', name: 'istio-ca-root-cert' })).ok)
})

await t.test('what is in the way of objects is found before any is made', async (t) => {
  const { server, api } = await cluster(t)
  const findings = async (): Promise<string> =>
    (await preflight(api, { ...(await plan()), values: (await plan()).used }))
      .map(({ severity, what }) => `${severity}: ${what}`)
      .join('\n')
  t.notMatch(await findings(), /is being deleted|overwritten|Helm/)
  const spec = { finalizers: ['kubernetes'] }
  server.put(NAMESPACES, {
    metadata: { name: NAMESPACE, deletionTimestamp: new Date().toISOString() },
    spec,
  } as KubeObject)
  t.match(
    await findings(),
    /error: namespace ambit-system is being deleted: .*kubectl wait --for=delete namespaces\/ambit-system/,
  )
  server.put(NAMESPACES, { metadata: { name: NAMESPACE }, spec } as KubeObject)
  const [kind] = policyKinds()
  if (kind === undefined) throw new Error('no kinds')
  const deletionTimestamp = new Date().toISOString()
  const { metadata } = kind.object
  server.put(kind.resource, { ...kind.object, metadata: { ...metadata, deletionTimestamp } })
  t.match(await findings(), /error: CustomResourceDefinition authorization\S+ is being deleted: /)
  server.remove(kind.resource, kind.target.name)
  const service = { metadata: { namespace: NAMESPACE, name: 'ambit-controller' } }
  server.put(SERVICES, service)
  t.match(await findings(), /error: Service ambit-system\/ambit-controller is there, and none of/)
  const annotations = { 'meta.helm.sh/release-name': 'mine' }
  const labels = { 'app.kubernetes.io/managed-by': 'Helm', 'app.kubernetes.io/name': 'ambit' }
  server.put(SERVICES, { metadata: { ...service.metadata, labels, annotations } })
  t.match(
    await findings(),
    /error: Service .* is Helm's \(release mine\): upgrade and uninstall with/,
  )
})

await t.test(
  'who interrupts is told that, and a namespace of theirs keeps its own labels',
  async (t) => {
    const { server, api } = await cluster(t)
    const labels = { mine: 'yes' }
    expectOk(await api.create(NAMESPACES, { metadata: { name: NAMESPACE, labels } }))
    const interrupt = new AbortController()
    const { options } = telling(undefined, { signal: interrupt.signal })
    const report = (line: string): void => {
      if (line.startsWith('DaemonSet ambit-agent 0/'))
        interrupt.abort(new Error('it was interrupted'))
    }
    await t.rejects(install(api, await plan(), { ...options, report }), {
      message: /^Cannot install: it was interrupted; everything is as it was before$/,
    })
    const read = async (): Promise<unknown> => {
      const { metadata } = expectOk(await api.get(NAMESPACES, { name: NAMESPACE }))
      const { 'kubernetes.io/metadata.name': _name, ...rest } = metadata?.labels ?? {}
      return rest
    }
    t.strictSame(await read(), labels)
    await install(api, await plan(), telling(server).options)
    t.match(await read(), { ...labels, 'pod-security.kubernetes.io/enforce': 'privileged' })
    await uninstall(api, { ...(await removal()), takesNamespace: false })
    t.strictSame(await read(), labels)
  },
)

await t.test('a node that is off keeps no cluster from its mesh', async (t) => {
  const { server, api } = await cluster(t)
  server.put(NODES, {
    metadata: { name: 'off' },
    status: { conditions: [{ type: 'Ready', status: 'Unknown' }] },
  } as KubeObject)
  expectOk(await api.create(NAMESPACES, { metadata: { name: NAMESPACE } }))
  server.put(PODS, {
    metadata: { namespace: NAMESPACE, name: 'ambit-agent-x', labels: { app: 'ambit-agent' } },
    spec: { nodeName: 'off', containers: [{ name: 'agent', image: 'ambit' }] },
    status: { phase: 'Pending' },
  } as KubeObject)
  const { lines, options } = telling(server, { timeoutMs: 5_000 })
  await install(api, await plan(), {
    ...options,
    report: (line) => {
      options.report(line)
      const found = server.get(DAEMON_SETS, `${NAMESPACE}/ambit-agent`)
      if (found === undefined || !line.includes('ambit-values')) return
      const observedGeneration = found.metadata?.generation
      const status = { ...AGENTS_READY, numberReady: 1, observedGeneration }
      server.put(DAEMON_SETS, { ...found, status } as KubeObject)
    },
  })
  t.ok(
    lines.includes('warning: node off is not ready: its agent comes when the node does'),
    lines.join('\n'),
  )
  const checks = await verify(api, (await plan()).objects, NAMESPACE)
  const unwell = checks.filter(({ isWell }) => !isWell).map(({ what, why }) => `${what}: ${why}`)
  t.match(unwell, [/DaemonSet ambit-agent is ready: 1 of 2/, /pods: pod ambit-agent-x on off/])
})

await t.test('an agent of before that still serves its connections is no fault', async (t) => {
  const { server, api } = await cluster(t)
  await install(api, await plan(), telling(server).options)
  server.put(PODS, {
    metadata: {
      namespace: NAMESPACE,
      name: 'ambit-agent-x',
      labels: { app: 'ambit-agent' },
      deletionTimestamp: '2026-11-30T12:00:00Z',
    },
    spec: { nodeName: 'one', containers: [{ name: 'agent', image: 'ambit' }] },
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'False' }] },
  } as KubeObject)
  const unwell = async (): Promise<readonly string[]> => {
    const checks = await verify(api, (await plan()).objects, NAMESPACE)
    return checks.filter(({ isWell }) => !isWell).map(({ what, why }) => `${what}: ${why}`)
  }
  t.strictSame(await unwell(), [])
  const found = server.get(DAEMON_SETS, `${NAMESPACE}/ambit-agent`)
  server.put(DAEMON_SETS, {
    ...found,
    status: { ...AGENTS_READY, numberReady: 1, observedGeneration: found?.metadata?.generation },
  } as KubeObject)
  t.match(await unwell(), [
    /DaemonSet ambit-agent is ready: 1 of 2/,
    /pods: pod ambit-agent-x on one: is ending/,
  ])
})

await t.test(
  'null of a later file, or of an upgrade, takes the value of the chart away',
  async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'ambit-values-'))
    t.teardown(() => rmSync(directory, { recursive: true }))
    const values = [
      'agent: { tolerations: [{ key: a, operator: Exists }] }',
      'agent: { tolerations: null }',
    ]
    const files = values.map((_, at) => join(directory, `${at}.yaml`))
    for (const [at, file] of files.entries()) writeFileSync(file, values[at] ?? '')
    const both = join(directory, 'both.yaml')
    writeFileSync(both, values.join('\n---\n'))
    t.throws(() => valuesOf({ values: [both] }), {
      code: 'AMB_CHART_VALUES',
      message: /both\.yaml: it has 2 documents/,
    })
    const first = valuesOf({ values: files.slice(0, 1) })
    for (const given of [
      valuesOf({ values: files }),
      valuesOf({ values: files.slice(1) }, first),
    ]) {
      const { used } = await installObjects(given, NAMESPACE)
      t.equal(JSON.stringify(used['agent']).includes('tolerations'), false)
    }
  },
)

async function removal(): Promise<Parameters<typeof uninstall>[1]> {
  return {
    namespace: NAMESPACE,
    objects: (await plan()).objects,
    caSecret: 'ambit-ca-secret',
    takesNamespace: false,
    isPurge: false,
    isDryRun: false,
    timeoutMs: 60_000,
    report: () => undefined,
  }
}

await t.test('what values name and the cluster has not is found before', async (t) => {
  const { api } = await cluster(t)
  const given = {
    agent: { priorityClassName: 'ours' },
    controller: { priorityClassName: 'system-cluster-critical' },
    image: { pullSecrets: ['registry'] },
    otlp: { endpoint: 'http://collector:4318', secretName: 'headers' },
  }
  const found = await preflight(api, { ...(await plan(given)), values: (await plan(given)).used })
  t.strictSame(
    found.map(({ severity, what }) => `${severity}: ${what}`).filter((line) => !/kinds/.test(line)),
    [
      'error: agent.priorityClassName: the cluster has no PriorityClass ours',
      'error: otlp.secretName: there is no Secret ambit-system/headers: no pod starts without it',
      'warning: image.pullSecrets: there is no Secret ambit-system/registry: nodes fetch the image without it',
    ],
  )
})

await t.test('why pods are not even made is told', async (t) => {
  const { server, api } = await cluster(t)
  expectOk(await api.create(NAMESPACES, { metadata: { name: NAMESPACE } }))
  const refusal = (name: string, kind: string, of: string, message: string, minute: number): void =>
    void server.put(EVENTS, {
      metadata: { namespace: NAMESPACE, name },
      involvedObject: { kind, name: of },
      reason: 'FailedCreate',
      message,
      lastTimestamp: `2026-01-01T00:0${minute}:00Z`,
    })
  refusal('a', 'DaemonSet', 'ambit-agent', 'exceeded quota', 1)
  refusal('b', 'DaemonSet', 'ambit-agent', 'violates PodSecurity "baseline:latest"', 2)
  refusal('c', 'ReplicaSet', 'ambit-controller-7d9', 'no PriorityClass with name ours', 1)
  server.put(EVENTS, {
    metadata: { namespace: NAMESPACE, name: 'old' },
    involvedObject: { kind: 'DaemonSet', name: 'ambit-agent', uid: 'of-one-before' },
    reason: 'FailedCreate',
    message: 'long mended',
    lastTimestamp: '2026-01-02T00:00:00Z',
  })
  refusal('d', 'ReplicaSet', 'shop-7d9', 'of others', 1)
  const why =
    /DaemonSet ambit-agent cannot make pods: violates PodSecurity "baseline:latest"; ReplicaSet ambit-controller-7d9 cannot make pods: no PriorityClass/
  const { options } = telling(undefined, { timeoutMs: 1 })
  await t.rejects(install(api, await plan(), options), { message: why })
  const checks = await verify(api, (await plan()).objects, NAMESPACE)
  t.equal(checks.filter(({ why }) => why.includes('cannot make pods')).length, 2)
})

await t.test('what a value has taken away, an upgrade takes off the cluster', async (t) => {
  const { server, api } = await cluster(t)
  await install(api, await plan(), telling(server).options)
  t.ok((await api.get(BUDGETS, CONTROLLERS)).ok)
  const without = await plan({ controller: { podDisruptionBudget: false } })
  const dry = telling(server, { isDryRun: true })
  await install(api, without, dry.options)
  const title = `PodDisruptionBudget ${NAMESPACE}/ambit-controller`
  t.ok(dry.lines.includes(`${title} would be removed`))
  t.ok((await api.get(BUDGETS, CONTROLLERS)).ok)
  const { lines, options } = telling(server)
  await install(api, without, options)
  t.equal(lines.at(-1), `${title} removed`)
  t.notOk((await api.get(BUDGETS, CONTROLLERS)).ok)

  await t.test('and uninstalling finds what no values name any more', async (t) => {
    const labels = { 'app.kubernetes.io/part-of': 'ambit', 'app.kubernetes.io/managed-by': 'ambit' }
    expectOk(await api.create(BUDGETS, { metadata: { ...CONTROLLERS, labels } }))
    const others = { ...CONTROLLERS, name: 'somebodys' }
    expectOk(await api.create(BUDGETS, { metadata: others }))
    const theirs = policyKinds()[0]
    if (theirs === undefined) throw new Error('no kinds')
    expectOk(await api.delete(theirs.resource, theirs.target))
    const { labels: _ours, ...metadata } = theirs.object.metadata ?? {}
    expectOk(await api.create(theirs.resource, { ...theirs.object, metadata }))
    const told: string[] = []
    await uninstall(api, {
      ...(await removal()),
      objects: without.objects,
      isPurge: true,
      report: (line) => void told.push(line),
    })
    t.ok(told.includes(`${title} removed`), told.join('\n'))
    t.ok((await api.get(BUDGETS, others)).ok)
    t.ok(
      told.includes(`${theirs.title} stays, with its policies: it is none that Ambit has brought`),
    )
    const kinds = await Promise.all(
      policyKinds().map((each) => api.get(each.resource, each.target)),
    )
    t.strictSame(
      kinds.map(({ ok }) => ok),
      [true, false],
      'of the kinds, ours goes, and not that of another mesh',
    )
  })
})

await t.test('verify finds what was added, and sees that a quantity is the same', async (t) => {
  const { server, api } = await cluster(t)
  const given = { agent: { resources: { limits: { memory: '1Gi' }, requests: { cpu: '0.5' } } } }
  const { objects } = await plan(given)
  await install(api, await plan(given), telling(server).options)
  const wrong = async (): Promise<readonly string[]> =>
    (await verify(api, objects, NAMESPACE)).flatMap(({ what, why }) =>
      why === '' ? [] : [`${what}: ${why}`],
    )
  t.strictSame(await wrong(), [])
  const change = async (patch: (text: string) => string): Promise<void> => {
    const found = expectOk(await api.get(DAEMON_SETS, AGENTS))
    expectOk(
      await api.update(DAEMON_SETS, JSON.parse(patch(JSON.stringify(found))) as typeof found),
    )
  }
  const restore = async (): Promise<void> =>
    install(api, await plan(given), telling(server).options)
  await change((text) =>
    text.replaceAll('"1Gi"', '"1024Mi"').replaceAll('"cpu":"0.5"', '"cpu":"500m"'),
  )
  t.notMatch((await wrong()).join('\n'), /resources/)
  await change((text) => text.replaceAll('"1024Mi"', '"64Mi"'))
  t.match((await wrong()).join('\n'), /field spec\.\S+\.resources\.limits\.memory is not what was/)
  await restore()
  await change((text) => text.replace('"--same-node=direct"', '"--same-node=direct","--fail-open"'))
  t.match(
    (await wrong()).join('\n'),
    /field spec\.template\.spec\.containers\[0\]\.args\[\d+\] is not/,
  )
  await restore()
  const binding = expectOk(await api.get(BINDINGS, { name: 'ambit-controller' }))
  const subjects = [...(binding.subjects ?? []), { kind: 'Group', name: 'everybody' }]
  expectOk(await api.update(BINDINGS, { ...binding, subjects }))
  t.match(
    (await wrong()).join('\n'),
    /ClusterRoleBinding ambit-controller: field subjects\[1\] is not/,
  )
  for (const { resource, target } of policyKinds()) expectOk(await api.delete(resource, target))
  t.match(
    (await wrong()).join('\n'),
    /CustomResourceDefinition authorizationpolicies\S+: it is not there/,
  )
})

await t.test('verify of what Helm or kubectl has installed says what it can', async (t) => {
  const { server, api } = await cluster(t)
  await t.rejects(verifyOthers(api, NAMESPACE), {
    code: 'AMB_INSTALL',
    message: /Nothing of Ambit is installed in namespace ambit-system/,
  })
  await install(api, await plan(), telling(server).options)
  const wrong = async (): Promise<readonly string[]> =>
    (await verifyOthers(api, NAMESPACE)).flatMap(({ what, why }) =>
      why === '' ? [] : [`${what}: ${why}`],
    )
  t.strictSame(await wrong(), [])
  const found = expectOk(await api.get(DAEMON_SETS, AGENTS))
  server.put(DAEMON_SETS, {
    ...found,
    metadata: { ...found.metadata, labels: { 'app.kubernetes.io/version': '0.0.9' } },
    status: { ...AGENTS_READY, desiredNumberScheduled: 0, observedGeneration: 9 },
  } as KubeObject)
  expectOk(await api.delete(DEPLOYMENTS, CONTROLLERS))
  t.match(await wrong(), [
    /DaemonSet ambit-system\/ambit-agent: it is of version 0\.0\.9, this command of/,
    'Deployment ambit-system/ambit-controller: it is not there',
    /DaemonSet ambit-agent is ready: it is to run nowhere/,
    /Deployment ambit-controller is ready: 0 of 1/,
  ])
})

await t.test('who installs again does not take the values back that there are', async (t) => {
  const { server, api } = await cluster(t)
  const given = valuesOf({ set: ['image.repository=registry.example/ambit,agent.workers=2'] })
  await t.resolves(requireNoOther(api, NAMESPACE, {}), 'nothing is there')
  await install(api, await plan(given), telling(server).options)
  await t.resolves(requireNoOther(api, NAMESPACE, given))
  await t.rejects(requireNoOther(api, NAMESPACE, {}), {
    code: 'AMB_INSTALL',
    message:
      /installed in namespace ambit-system by other values: ambit upgrade goes on from those/,
  })
})

await t.test('values that cannot be read are named, with what to do', async (t) => {
  const { api } = await cluster(t)
  expectOk(await api.create(NAMESPACES, { metadata: { name: NAMESPACE } }))
  const { resource, object } = storedInstallation(NAMESPACE, {
    values: {},
    hasMadeNamespace: false,
  })
  expectOk(await api.create(resource, { ...object, data: { values: '[' } } as KubeObject))
  await t.rejects(install(api, await plan(), telling(undefined).options), {
    code: 'AMB_INSTALL',
    message: /ConfigMap ambit-system\/ambit-values: data\.values .*kubectl delete configmap/,
  })
})
