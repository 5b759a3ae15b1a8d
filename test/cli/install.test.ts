// SPDX-License-Identifier: Apache-2.0
// `ambit install`, `verify` and `uninstall` against the lab's API server; what controllers and kubelets would do is played by the test.

import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { awaitReady } from '../../cli/install/await-ready.ts'
import { install, type InstallOptions } from '../../cli/install/install.ts'
import { installObjects } from '../../cli/install/objects.ts'
import { preflight } from '../../cli/install/preflight.ts'
import { whyNotReady } from '../../cli/install/readiness.ts'
import { readInstallation } from '../../cli/install/stored-values.ts'
import { uninstall } from '../../cli/install/uninstall.ts'
import { verify } from '../../cli/install/verify.ts'
import type { Values } from '../../daemonset/render/values.ts'
import {
  CONFIG_MAPS,
  createKubeApi,
  DAEMON_SETS,
  defineResource,
  DEPLOYMENTS,
  type KubeApi,
  type KubeObject,
  type KubeResource,
  NAMESPACES,
  type Pod,
  PODS,
  SECRETS,
} from '../../mesh/kube/index.ts'
import { ROOT_LABEL } from '../../mesh/model/names.ts'
import { expectOk } from '../controller/small-cluster.ts'
import { FaultyApi } from '../support/faulty-api.ts'
import { until } from '../support/until.ts'

const MAIN = fileURLToPath(new URL('../../cli/main.ts', import.meta.url))
const NAMESPACE = 'ambit-system'
const LONG_MS = 60_000
const ROLES = defineResource('rbac.authorization.k8s.io', 'v1', 'roles', 'Role')
const SERVICE_ACCOUNTS = defineResource('', 'v1', 'serviceaccounts', 'ServiceAccount')

async function cluster(t: Test): Promise<{ readonly server: FaultyApi; readonly api: KubeApi }> {
  const server = new FaultyApi()
  await server.start()
  t.teardown(() => server.stop())
  return { server, api: createKubeApi(server.access(server.adminToken)) }
}

interface Told {
  readonly lines: string[]
  readonly options: InstallOptions
}

function telling(change: Partial<InstallOptions> = {}): Told {
  const lines: string[] = []
  const report = (line: string): void => void lines.push(line)
  const usual = { timeoutMs: LONG_MS, isDryRun: false, ignoresPreflight: false }
  return { lines, options: { ...usual, report, ...change } }
}

async function plan(given: Values = {}): Promise<Parameters<typeof install>[1]> {
  const { objects, used } = await installObjects(given, NAMESPACE)
  return { namespace: NAMESPACE, objects, given, used }
}

/** What the cluster's own controllers and kubelets say once the workloads are there. */
async function playReady(api: KubeApi): Promise<void> {
  const status = async (resource: KubeResource, name: string, fields: object): Promise<void> => {
    await until(async () => (await api.get(resource, { namespace: NAMESPACE, name })).ok, name)
    const { metadata } = expectOk(await api.get(resource, { namespace: NAMESPACE, name }))
    const patch = { status: { ...fields, observedGeneration: metadata?.generation } }
    const target = { namespace: NAMESPACE, name }
    expectOk(await api.patch(resource, target, patch, { subresource: 'status' }))
  }
  await status(DAEMON_SETS, 'ambit-agent', {
    currentNumberScheduled: 2,
    numberMisscheduled: 0,
    desiredNumberScheduled: 2,
    updatedNumberScheduled: 2,
    numberReady: 2,
  })
  await status(DEPLOYMENTS, 'ambit-controller', {
    replicas: 2,
    updatedReplicas: 2,
    readyReplicas: 2,
  })
}

/** Everything of the kinds that an installation makes, by title. */
async function everything(api: KubeApi): Promise<readonly string[]> {
  const { objects } = await installObjects({}, NAMESPACE)
  const kinds = new Map(objects.map(({ resource }) => [resource.kind, resource] as const))
  const all = [...kinds.values(), CONFIG_MAPS, SECRETS, DEFINITIONS]
  const lists = await Promise.all(
    all.map(async (resource) =>
      expectOk(await api.list<KubeObject>(resource)).items.map(
        ({ metadata }) => `${resource.kind} ${metadata?.namespace ?? ''}/${metadata?.name ?? ''}`,
      ),
    ),
  )
  return lists.flat().toSorted()
}

/** What the cluster's own controller does to the mesh's namespace when that is deleted. */
async function playEmptied(api: KubeApi): Promise<void> {
  const read = async () => expectOk(await api.get(NAMESPACES, { name: NAMESPACE }))
  await until(
    async () => (await read()).metadata?.deletionTimestamp !== undefined,
    'the namespace to be deleted',
  )
  const emptied = { ...(await read()), spec: { finalizers: [] } }
  expectOk(await api.update(NAMESPACES, emptied, { subresource: 'finalize' }))
}

const DEFINITIONS = defineResource(
  'apiextensions.k8s.io',
  'v1',
  'customresourcedefinitions',
  'CustomResourceDefinition',
  'cluster',
)

await t.test(
  'installed, it is there, ready, and verified; uninstalled, nothing is left',
  async (t) => {
    const { api } = await cluster(t)
    const before = await everything(api)
    const { lines, options } = telling()
    await Promise.all([
      install(api, await plan({ agent: { workers: 2 } }), options),
      playReady(api),
    ])
    for (const line of [
      'Namespace ambit-system created',
      'CustomResourceDefinition authorizationpolicies.security.istio.io created',
      'DaemonSet ambit-system/ambit-agent created',
      'DaemonSet ambit-agent 2/2 ready; Deployment ambit-controller 2/2 ready',
    ])
      t.ok(lines.includes(line), `${line}: ${lines.join(' | ')}`)
    t.strictSame(await readInstallation(api, NAMESPACE), {
      values: { agent: { workers: 2 } },
      hasMadeNamespace: true,
    })

    const { objects } = await installObjects({ agent: { workers: 2 } }, NAMESPACE)
    const wrong = async (): Promise<readonly string[]> =>
      (await verify(api, objects, NAMESPACE)).flatMap(({ what, why }) =>
        why === '' ? [] : [`${what}: ${why}`],
      )
    t.strictSame(await wrong(), [])

    await t.test('again, nothing is changed; with another value, that is', async (t) => {
      const again = telling()
      await install(api, await plan({ agent: { workers: 2 } }), again.options)
      t.strictSame(
        again.lines.filter((line) => / (created|changed)$/.test(line)),
        [],
      )
      const more = telling()
      const upgrading = install(api, await plan({ agent: { workers: 3 } }), more.options)
      await until(() => more.lines.some((line) => /updating/.test(line)), 'the new generation')
      await Promise.all([upgrading, playReady(api)])
      t.strictSame(
        more.lines.filter((line) => / (created|changed)$/.test(line)),
        [
          'DaemonSet ambit-system/ambit-agent changed',
          'ConfigMap ambit-system/ambit-values changed',
        ],
      )
      t.strictSame(await wrong(), [
        'DaemonSet ambit-system/ambit-agent: field spec.template.spec.containers[0].args[17] is not what was installed: ambit upgrade puts it right',
      ])
    })

    await t.test('verify finds what is gone', async (t) => {
      expectOk(await api.delete(SERVICE_ACCOUNTS, { namespace: NAMESPACE, name: 'ambit-agent' }))
      t.ok(
        (await wrong()).includes(
          'ServiceAccount ambit-system/ambit-agent: it is not there: ambit upgrade puts it right',
        ),
      )
    })

    // What the controller has made.
    const root = { name: 'istio-ca-root-cert', labels: { [ROOT_LABEL]: 'published' } }
    for (const namespace of ['default', NAMESPACE])
      expectOk(await api.create(CONFIG_MAPS, { metadata: { ...root, namespace } }))
    // Another mesh has the same name for its own.
    const theirs = { namespace: 'istio-system', name: 'istio-ca-root-cert' }
    expectOk(await api.create(NAMESPACES, { metadata: { name: theirs.namespace } }))
    expectOk(await api.create(CONFIG_MAPS, { metadata: theirs }))
    expectOk(
      await api.create(SECRETS, { metadata: { namespace: NAMESPACE, name: 'ambit-ca-secret' } }),
    )
    const removal = {
      namespace: NAMESPACE,
      objects,
      caSecret: 'ambit-ca-secret',
      takesNamespace: true,
      isPurge: true,
      isDryRun: false,
      timeoutMs: LONG_MS,
    }
    const left = await everything(api)
    const dry: string[] = []
    await uninstall(api, { ...removal, isDryRun: true, report: (line) => dry.push(line) })
    t.ok(dry.includes('DaemonSet ambit-system/ambit-agent would be removed'))
    t.strictSame(await everything(api), left, 'a dry run removes nothing')

    await Promise.all([uninstall(api, { ...removal, report: () => undefined }), playEmptied(api)])
    const isOurs = (title: string): boolean => !before.includes(title)
    t.strictSame(
      (await everything(api)).filter(isOurs),
      ['ConfigMap istio-system/istio-ca-root-cert', 'Namespace /istio-system'],
      'the namespace, too, is gone and not only about to go',
    )
  },
)

await t.test(
  'an installation that fails is taken back: what was made goes, what was changed is as before',
  async (t) => {
    const { server, api } = await cluster(t)
    const labels = { mine: 'yes', 'pod-security.kubernetes.io/enforce': 'baseline' }
    expectOk(await api.create(NAMESPACES, { metadata: { name: NAMESPACE, labels } }))
    const before = await everything(api)
    server.fail('PATCH', /\/daemonsets\/ambit-agent/, 1, 403)
    await t.rejects(install(api, await plan(), telling().options), {
      code: 'AMB_INSTALL',
      message: /DaemonSet ambit-system\/ambit-agent: .*HTTP 403.*; everything is as it was before/,
    })
    t.strictSame(await everything(api), before)
    const { metadata } = expectOk(await api.get(NAMESPACES, { name: NAMESPACE }))
    t.match(metadata?.labels, labels)
    t.notOk(metadata?.labels?.['app.kubernetes.io/name'])
  },
)

/** Agents that become ready on so many nodes, one count after the other, each later than half of the time that one of them may take. */
async function waitedFor(t: Test, counts: readonly number[]): Promise<readonly string[]> {
  const { api } = await cluster(t)
  expectOk(await api.create(NAMESPACES, { metadata: { name: NAMESPACE } }))
  for (const { resource, object } of (await plan()).objects)
    if (resource.kind === 'DaemonSet' || resource.kind === 'Deployment')
      expectOk(await api.create(resource, object))
  await playReady(api)
  const left = [...counts]
  const step = async (): Promise<void> => {
    const numberReady = left.shift()
    if (numberReady === undefined) return
    const status = { desiredNumberScheduled: 5, updatedNumberScheduled: 5, numberReady }
    const target = { namespace: NAMESPACE, name: 'ambit-agent' }
    expectOk(await api.patch(DAEMON_SETS, target, { status }, { subresource: 'status' }))
  }
  await step()
  const lines: string[] = []
  let clock = 0
  let stepping = Promise.resolve()
  const report = (line: string): void => {
    lines.push(line)
    clock += 700
    stepping = step()
  }
  try {
    await awaitReady(api, { namespace: NAMESPACE, timeoutMs: 1_000, now: () => clock, report })
  } finally {
    await stepping
  }
  return lines
}

await t.test(
  'a large cluster becomes ready node by node, in all the time that takes',
  async (t) => {
    const lines = await waitedFor(t, [1, 2, 3, 4, 5])
    t.equal(lines.length, 5, lines.join('\n'))
    t.match(lines.at(-1), /DaemonSet ambit-agent 5\/5 ready/)
  },
)

await t.test('agents that come and go are no progress', async (t) => {
  await t.rejects(waitedFor(t, [1, 0, 1, 0, 1]), {
    code: 'AMB_INSTALL',
    message: /nothing more has become so for 1 s/,
  })
})

await t.test('who waits in vain is told which pod hangs and why', async (t) => {
  const { api } = await cluster(t)
  const { lines, options } = telling({ timeoutMs: 1 })
  const pod = {
    metadata: { namespace: NAMESPACE, name: 'ambit-agent-abcde', labels: { app: 'ambit-agent' } },
    spec: { nodeName: 'node-a', containers: [{ name: 'agent', image: 'ambit' }] },
  }
  expectOk(await api.create(NAMESPACES, { metadata: { name: NAMESPACE } }))
  expectOk(await api.create(PODS, pod as Pod))
  await t.rejects(install(api, await plan(), options), {
    code: 'AMB_INSTALL',
    message:
      /not ready, and nothing more has become so for 0 s: pod ambit-agent-abcde on node-a: its containers are not started yet; not taken back: still ending: pod ambit-agent-abcde on node-a, which is not ready/,
  })
  t.ok(lines.some((line) => line.startsWith('taking it back')))
})

await t.test(
  'a node that lacks something ends an installation at once, and is named',
  async (t) => {
    const { api } = await cluster(t)
    const { lines, options } = telling()
    expectOk(await api.create(NAMESPACES, { metadata: { name: NAMESPACE } }))
    const before = await everything(api)
    const line = JSON.stringify({
      level: 'fatal',
      code: 'AMB_KERNEL_FEATURE',
      msg: 'Cannot open capture: this kernel lacks cgroup hooks',
    })
    const terminated = { exitCode: 1, message: `{"msg":"starting"}\n${line}\n` }
    const pod = {
      metadata: { namespace: NAMESPACE, name: 'ambit-agent-abcde', labels: { app: 'ambit-agent' } },
      spec: { nodeName: 'node-a', containers: [{ name: 'agent', image: 'ambit' }] },
    }
    const containerStatuses = [
      {
        name: 'agent',
        ready: false,
        restartCount: 1,
        image: 'ambit',
        imageID: '',
        state: { waiting: { reason: 'CrashLoopBackOff', message: 'back-off 10s' } },
        lastState: { terminated },
      },
    ]
    const fail = async (): Promise<void> => {
      const set = { namespace: NAMESPACE, name: 'ambit-agent' }
      await until(async () => (await api.get(DAEMON_SETS, set)).ok, 'the DaemonSet', 50_000)
      expectOk(await api.create(PODS, pod as Pod))
      const target = { namespace: NAMESPACE, name: pod.metadata.name }
      const status = { status: { containerStatuses } }
      expectOk(await api.patch(PODS, target, status, { subresource: 'status' }))
      // What the cluster's own controllers do to the pods of a DaemonSet that is deleted.
      await until(async () => !(await api.get(DAEMON_SETS, set)).ok, 'the DaemonSet to go', 50_000)
      t.ok((await api.get(ROLES, set)).ok, 'what agents need for their end is there still')
      expectOk(await api.delete(PODS, target, { gracePeriodSeconds: 0 }))
    }
    const [failed, said] = await Promise.allSettled([install(api, await plan(), options), fail()])
    t.match(said, { status: 'fulfilled' }, 'the pod says it')
    t.match(failed, {
      status: 'rejected',
      reason: {
        code: 'AMB_INSTALL',
        message:
          /Not every node fits: pod ambit-agent-abcde on node-a: Cannot open capture: this kernel lacks cgroup hooks \[AMB_KERNEL_FEATURE\]; everything is as it was/,
      },
    })
    t.ok(lines.some((line) => line.startsWith('taking it back')))
    t.strictSame(await everything(api), before)
  },
)

await t.test('a node on which new pods start without the plugin is named', async (t) => {
  const { api } = await cluster(t)
  expectOk(await api.create(NAMESPACES, { metadata: { name: NAMESPACE } }))
  const tell = async (name: string, nodeName: string, problem: string | undefined) => {
    const chained = {
      type: 'ambit.io/cni-chained',
      status: problem === undefined ? 'True' : 'False',
      message: problem ?? '',
    }
    const conditions = [{ type: 'Ready', status: 'True' }, chained]
    const metadata = { namespace: NAMESPACE, name, labels: { app: 'ambit-agent' } }
    expectOk(
      await api.create(PODS, {
        metadata,
        spec: { nodeName, containers: [{ name: 'agent', image: 'ambit' }] },
      }),
    )
    expectOk(await api.patch(PODS, metadata, { status: { conditions } }, { subresource: 'status' }))
  }
  await tell('ambit-agent-aaaaa', 'node-a', undefined)
  await tell('ambit-agent-bbbbb', 'node-b', '/etc/cni/net.d has no list of plugins')
  const { lines, options } = telling()
  await Promise.all([install(api, await plan(), options), playReady(api)])
  t.strictSame(
    lines.filter((line) => /^warning: node/.test(line)),
    ['warning: node node-b: /etc/cni/net.d has no list of plugins'],
  )
  const checks = await verify(api, (await plan()).objects, NAMESPACE)
  t.match(
    checks.filter(({ what }) => what === 'CNI'),
    [{ isWell: false, why: 'node node-b: /etc/cni/net.d has no list of plugins' }],
  )
})

await t.test('why a pod is not ready', (t) => {
  const pod = (status: object): Pod =>
    ({ metadata: { namespace: 'n', name: 'p' }, spec: { nodeName: 'a' }, status }) as unknown as Pod
  const cases: readonly (readonly [object, RegExp | undefined])[] = [
    [{ conditions: [{ type: 'Ready', status: 'True' }] }, undefined],
    [
      { conditions: [{ type: 'PodScheduled', status: 'False', message: '0/3 nodes' }] },
      /no node takes it: 0\/3 nodes/,
    ],
    [
      {
        containerStatuses: [
          {
            state: {
              waiting: { reason: 'ImagePullBackOff', message: 'Back-off pulling image "ambit"' },
            },
          },
        ],
      },
      /pod p on a: ImagePullBackOff: Back-off pulling image "ambit"/,
    ],
    [
      {
        containerStatuses: [
          {
            restartCount: 4,
            lastState: { terminated: { exitCode: 1 } },
            state: { waiting: { reason: 'CrashLoopBackOff' } },
          },
        ],
      },
      /CrashLoopBackOff, exit code 1 before, 4 restarts/,
    ],
    [
      {
        containerStatuses: [
          {
            restartCount: 1,
            lastState: { terminated: { exitCode: 1, message: 'panic\nlast line\n' } },
            state: { waiting: { reason: 'CrashLoopBackOff' } },
          },
        ],
      },
      /CrashLoopBackOff, exit code 1 before, 1 restarts: last line/,
    ],
    [
      { containerStatuses: [{ state: { running: {} } }] },
      /runs, and is not ready: kubectl logs -n n p/,
    ],
  ]
  for (const [status, words] of cases) {
    const told = whyNotReady(pod(status))
    if (words === undefined) t.equal(told, undefined)
    else t.match(told, words)
  }
  t.end()
})

await t.test('what is in the way is found before anything is made', async (t) => {
  const { server, api } = await cluster(t)
  const node = (name: string, nodeInfo: object): void =>
    void expectOk(
      server.local.create('nodes', undefined, { metadata: { name }, status: { nodeInfo } }),
    )
  node('old', {
    kernelVersion: '5.4.0-150-generic',
    architecture: 'amd64',
    kubeletVersion: 'v1.33.1+k3s1',
  })
  node('odd', { kernelVersion: '6.1.0', architecture: 's390x', kubeletVersion: 'v1.33.1+k3s1' })
  const daemonSet = (namespace: string, name: string): KubeObject =>
    ({
      metadata: { namespace, name },
      spec: {
        selector: { matchLabels: { app: name } },
        template: {
          metadata: { labels: { app: name } },
          spec: { containers: [{ name: 'c', image: 'i' }] },
        },
      },
    }) as KubeObject
  for (const name of ['istio-system', 'kube-system', 'elsewhere'])
    if (!(await api.get(NAMESPACES, { name })).ok)
      expectOk(await api.create(NAMESPACES, { metadata: { name } }))
  const findings = async (given: Values = {}): Promise<string> => {
    const { objects, used: values } = await installObjects(given, NAMESPACE)
    const all = await preflight(api, { objects, values, namespace: NAMESPACE })
    return all.map(({ severity, what }) => `${severity}: ${what}`).join('\n')
  }
  const first = await findings()
  t.match(first, /error: node old has kernel 5\.4\.0-150-generic: 5\.15 or later is needed/)
  t.match(first, /error: node odd is s390x/)
  t.match(first, /warning: this looks like k3s, .* --set platform=k3s/)
  t.match(first, /warning: the cluster has no kinds of the Gateway API/)
  t.notMatch(first, /may not|Cilium|Istio/)

  const node2 = (name: string, labels: Record<string, string>): void =>
    void expectOk(
      server.local.create('nodes', undefined, { metadata: { name, labels }, status: {} }),
    )
  node2('shift', { 'node.openshift.io/os_id': 'rhcos' })
  t.match(await findings(), /warning: not supported, and left out of the mesh: shift: OpenShift/)

  const root = { namespace: 'istio-system', name: 'istio-ca-root-cert' }
  const left = { ...root, namespace: 'elsewhere', labels: { [ROOT_LABEL]: 'published' } }
  expectOk(await api.create(CONFIG_MAPS, { metadata: left }))
  t.notMatch(await findings(), /another mesh/, 'what an earlier Ambit has left is its own')
  expectOk(await api.create(CONFIG_MAPS, { metadata: root }))
  expectOk(await api.create(DAEMON_SETS, daemonSet('istio-system', 'istio-cni-node')))
  expectOk(
    await api.create(CONFIG_MAPS, {
      metadata: { namespace: 'kube-system', name: 'cilium-config' },
      data: { 'bpf-lb-sock': 'true' },
    } as KubeObject),
  )
  const second = await findings()
  t.match(second, /error: another mesh publishes its root .*istio-system\/istio-ca-root-cert/)
  t.match(second, /warning: Istio's CNI agent is here.*set mesh\.namespaceSelector/)
  t.match(
    await findings({ mesh: { namespaceSelector: 'mesh=ambit' } }),
    /warning: Istio's CNI agent is here: what mesh\.namespaceSelector selects must be out/,
  )
  t.match(await findings({ platform: 'gke' }), /this looks like k3s/, 'also under another name')
  t.notMatch(await findings({ platform: 'k3s' }), /this looks like/)

  // The root of the other mesh, copied as the guide says.
  const pem = (name: string): string =>
    `-----BEGIN CERTIFICATE-----\n${Buffer.from(name).toString('base64')}\n-----END CERTIFICATE-----\n`
  const publish = async (roots: string): Promise<void> =>
    void expectOk(await api.patch(CONFIG_MAPS, root, { data: { 'root-cert.pem': roots } }))
  await publish(pem('one'))
  const data = { 'root-cert.pem': Buffer.from(`# ours\n${pem('one')}`).toString('base64') }
  if (!(await api.get(NAMESPACES, { name: NAMESPACE })).ok)
    expectOk(await api.create(NAMESPACES, { metadata: { name: NAMESPACE } }))
  expectOk(await api.create(SECRETS, { metadata: { namespace: NAMESPACE, name: 'cacerts' }, data }))
  t.match(
    await findings(),
    /warning: another mesh publishes its root .* which is this one's as well/,
  )
  await publish(pem('other'))
  t.match(await findings(), /error: another mesh publishes its root/)
  t.match(second, /warning: Cilium takes other plugins out .*cni\.exclusive=false/)
  t.match(second, /warning: Cilium balances Services/)
  const settings = { namespace: 'kube-system', name: 'cilium-config' }
  const hostOnly = { data: { 'bpf-lb-sock-hostns-only': 'true' } }
  expectOk(await api.patch(CONFIG_MAPS, settings, hostOnly))
  t.notMatch(await findings(), /Cilium balances Services/, 'not for pods')

  expectOk(await api.create(DAEMON_SETS, daemonSet('elsewhere', 'ambit-agent')))
  t.match(await findings(), /error: Ambit is installed in namespace elsewhere already/)

  const before = await everything(api)
  await t.rejects(install(api, await plan(), telling().options), {
    code: 'AMB_INSTALL',
    message: /kernel 5\.4/,
  })
  t.strictSame(await everything(api), before, 'nothing was made')
  const dry = telling({ isDryRun: true, ignoresPreflight: true })
  await install(api, await plan(), dry.options)
  t.ok(dry.lines.includes('DaemonSet ambit-system/ambit-agent would be created'))
  t.strictSame(await everything(api), before, 'nothing was made')
})

await t.test('agents that do not end keep everything else where it is', async (t) => {
  const { server, api } = await cluster(t)
  await Promise.all([install(api, await plan(), telling().options), playReady(api)])
  expectOk(server.local.create('nodes', undefined, { metadata: { name: 'off' } }))
  const agent = {
    name: 'ambit-agent-abcde',
    namespace: NAMESPACE,
    labels: { app: 'ambit-agent' },
    finalizers: ['test/hold'],
  }
  expectOk(
    await api.create(PODS, {
      metadata: agent,
      spec: { nodeName: 'off', containers: [{ name: 'a', image: 'i' }] },
    }),
  )
  const { objects } = await installObjects({}, NAMESPACE)
  const options = {
    namespace: NAMESPACE,
    objects,
    caSecret: 'ambit-ca-secret',
    takesNamespace: false,
    isPurge: false,
    isDryRun: false,
    timeoutMs: 1,
    report: () => undefined,
  }
  await t.rejects(uninstall(api, options), {
    code: 'AMB_INSTALL',
    message: /pods of ambit-agent have not ended .*ambit-agent-abcde on off, which is not ready/,
  })
  t.ok((await api.get(DEPLOYMENTS, { namespace: NAMESPACE, name: 'ambit-controller' })).ok)
})

await t.test('what Helm, or a deletion by hand, has left of the mesh is taken away', async (t) => {
  const { api } = await cluster(t)
  const { objects } = await installObjects({}, NAMESPACE)
  const lines: string[] = []
  const options = {
    namespace: NAMESPACE,
    objects,
    caSecret: 'own-root',
    takesNamespace: false,
    isPurge: false,
    isDryRun: false,
    timeoutMs: LONG_MS,
    report: (line: string) => void lines.push(line),
  }
  await t.rejects(uninstall(api, options), { message: /nothing of Ambit is in ambit-system/ })
  expectOk(await api.create(NAMESPACES, { metadata: { name: NAMESPACE } }))
  const root = { namespace: 'default', name: 'istio-ca-root-cert' }
  expectOk(await api.create(CONFIG_MAPS, { metadata: root }))
  await t.rejects(
    uninstall(api, options),
    { message: /nothing/ },
    "another mesh's is nothing of ours",
  )
  const labels = { [ROOT_LABEL]: 'published' }
  expectOk(await api.patch(CONFIG_MAPS, root, { metadata: { labels } }))
  for (const name of ['own-root', 'cacerts'])
    expectOk(await api.create(SECRETS, { metadata: { namespace: NAMESPACE, name } }))
  await uninstall(api, options)
  t.notOk((await api.get(CONFIG_MAPS, root)).ok)
  t.notOk((await api.get(SECRETS, { namespace: NAMESPACE, name: 'own-root' })).ok)
  t.ok((await api.get(SECRETS, { namespace: NAMESPACE, name: 'cacerts' })).ok, 'yours stays')
  t.ok(lines.includes('ConfigMap default/istio-ca-root-cert removed'))
})

await t.test('the command prints manifests, and refuses wrong values by their path', async (t) => {
  const ambit = (
    ...args: readonly string[]
  ): Promise<{ code: unknown; out: string; err: string }> =>
    new Promise((resolve) =>
      execFile(process.execPath, [MAIN, ...args], { timeout: LONG_MS }, (error, out, err) =>
        resolve({ code: error?.code ?? 0, out, err }),
      ),
    )
  const yaml = await ambit('install', '-o', 'yaml', '--set', 'agent.workers=3,platform=k3s')
  t.equal(yaml.code, 0, yaml.err)
  t.match(yaml.out, /--workers=3\n/)
  t.match(yaml.out, /path: "\/var\/lib\/rancher\/k3s\/data\/cni"/)
  const wrong = await ambit('install', '-o', 'yaml', '--set', 'agent.wrokers=3')
  t.equal(wrong.code, 1)
  t.match(wrong.err, /agent\.wrokers is no value of this chart\. .*\[AMB_CHART_VALUES\]/)
})

await t.test('what only the programs can judge they do, before anything is applied', async (t) => {
  const cases: readonly (readonly [Values, RegExp])[] = [
    [
      { agent: { accessLog: { filter: 'has(' } } },
      /: agent\.accessLog\.filter: .*argument 'has\('/,
    ],
    [
      { agent: { extraArgs: ['--fail-open', '--no-such'] } },
      /: agent\.extraArgs\[1\]: unknown option/,
    ],
    [{ agent: { extraArgs: ['--workers=x'] } }, /: agent\.extraArgs\[0\]: .*argument 'x'/],
    [{ mesh: { namespaceSelector: 'a in (b' } }, /: mesh\.namespaceSelector: .*label selector/],
    [
      { controller: { certificateSigner: 'kubernetes.io/legacy' } },
      /: controller\.certificateSigner: .*Kubernetes' own$/,
    ],
    [{ controller: { extraArgs: ['--log-level=loud'] } }, /: controller\.extraArgs\[0\]: /],
  ]
  for (const [values, reason] of cases)
    await t.rejects(installObjects(values, NAMESPACE), {
      code: 'AMB_CHART_VALUES',
      message: reason,
    })
})
