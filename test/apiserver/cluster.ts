// SPDX-License-Identifier: Apache-2.0
// The contract suite's cluster under test: an API server (the lab's own, or a true kube-apiserver with etcd), the lab's
// controllers against it, nodes, and a kubelet that only pretends (pods become ready at once and go when they are
// deleted). Tests see both servers through the same HTTP API and the same kubectl.

import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request as httpsRequest } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type {
  DeleteOptions,
  ListOptions,
  PatchType,
  Subresource,
  WatchEvent,
} from '../../lab/kubernetes/objects/cluster-api.ts'
import { BUILT_IN_TYPES } from '../../lab/kubernetes/objects/resource-types.ts'
import type { KubeInput, StoredObject } from '../../lab/kubernetes/objects/stored-object.ts'
import {
  type ApiServer,
  type ApiServerOptions,
  startApiServer,
} from '../../lab/kubernetes/own/apiserver/index.ts'
import type { IssuedToken, TokenRequest } from '../../lab/kubernetes/own/apiserver/tokens.ts'
import { startControllers } from '../../lab/kubernetes/own/controllers/index.ts'
import {
  missingPrograms,
  type RealApiServer,
  startRealApiServer,
} from '../../lab/kubernetes/real/api-server.ts'
import { mirrorCluster } from '../../lab/kubernetes/real/mirror.ts'
import { loadKubeConfig } from '../../mesh/kube/access.ts'
import { createKubeApi, type KubeApi } from '../../mesh/kube/api.ts'
import type { KubeFailure } from '../../mesh/kube/failure.ts'
import { defineResource, type KubeObject, type KubeResource } from '../../mesh/kube/resources.ts'
import { watchResource } from '../../mesh/kube/watch-resource.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'

/** How long any single kubectl call may take. */
const KUBECTL_DEADLINE_MS = 20_000
/** The lab's own, so that addresses look the same on both servers. */
const SERVICE_RANGES = ['10.96.0.0/16', 'fd98:96::/112']

export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

type Answer = Promise<Result<StoredObject, KubeFailure>>

/** The verbs over HTTP, resources by id (`pods`, `deployments.apps`), for whichever server. */
export interface ApiUnderTest {
  get(resource: string, namespace: string | undefined, name: string): Answer
  list(
    resource: string,
    options?: ListOptions,
  ): Promise<Result<readonly StoredObject[], KubeFailure>>
  create(resource: string, namespace: string | undefined, object: KubeInput): Answer
  update(resource: string, namespace: string | undefined, object: KubeInput): Answer
  patch(
    resource: string,
    namespace: string | undefined,
    name: string,
    patch: { readonly type: PatchType; readonly body: unknown },
    subresource?: Subresource,
  ): Answer
  delete(
    resource: string,
    namespace: string | undefined,
    name: string,
    options?: DeleteOptions,
  ): Promise<Result<unknown, KubeFailure>>
  watch(resource: string, onEvent: (event: WatchEvent) => void): () => void
  createToken(request: TokenRequest): Promise<Result<IssuedToken, KubeFailure>>
}

export interface ClusterUnderTest extends AsyncDisposable {
  /** Which server it is: a difference that has a reason is written as a condition on this. */
  readonly kind: 'own' | 'real'
  readonly api: ApiUnderTest
  readonly url: string
  readonly caPem: string
  readonly adminToken: string
  readonly kubeconfig: string
  /** What the lab's controllers stumbled over. */
  readonly errors: readonly Error[]
  /** Runs kubectl; never rejects because of its exit code. */
  kubectl(args: readonly string[], stdin?: string, token?: string): Promise<Ran>
  /** Starts kubectl for commands that go on (get -w). */
  spawnKubectl(args: readonly string[]): ChildProcess
  fetch(
    path: string,
    init?: { method?: string; body?: unknown; headers?: object; token?: string },
  ): Promise<Response>
}

/** With the hooks that only the lab's own server has. */
export interface OwnCluster extends ClusterUnderTest {
  readonly server: ApiServer
}

export interface ClusterOptions {
  readonly nodes?: number
  readonly kubelet?: boolean
}

/** For tap's `skip`: false when kubectl is there. */
export function missingKubectl(): string | false {
  try {
    execFileSync('kubectl', ['version', '--client'], { stdio: 'ignore' })
    return false
  } catch {
    return 'needs kubectl (1.31 or later) on PATH'
  }
}

/** One true server for all stories of a file: it takes seconds to start. Each story leaves it as it found it. */
let shared: Promise<RealApiServer> | undefined

/**
 * A story that must hold on both servers: told on the lab's own always, on kube-apiserver where its programs are. `skip`
 * is what both need.
 */
export function contract(
  name: string,
  options: ClusterOptions & { readonly skip?: string | false },
  story: (t: Test, cluster: ClusterUnderTest) => Promise<void>,
): void {
  const { skip = false, ...wanted } = options
  void t.test(`${name} (own)`, { skip }, async (t) => {
    await using cluster = await startCluster(wanted)
    await story(t, cluster)
  })
  const lacking = skip === false ? missingPrograms('kube-apiserver', 'etcd') : skip
  void t.test(`${name} (kube-apiserver)`, { skip: lacking, timeout: 60_000 }, async (t) => {
    shared ??= startRealApiServer(SERVICE_RANGES)
    await using cluster = await realCluster(await shared, wanted)
    await story(t, cluster)
  })
}

// A true server takes seconds to start, and its stories run one after the other.
t.setTimeout(300_000)

t.teardown(async () => {
  if (shared !== undefined) await (await shared)[Symbol.asyncDispose]()
})

/** Starts a cluster of the lab's own server; dispose of it with `await using`. */
export async function startCluster(
  options: ApiServerOptions & ClusterOptions = {},
): Promise<OwnCluster> {
  const server = await startApiServer(options)
  const { port } = await server.listen('127.0.0.1', 0)
  const url = `https://127.0.0.1:${port}`
  const errors: Error[] = []
  const controllers = startControllers({
    api: server.api,
    apiServerEndpoints: [{ ip: '127.0.0.1', port }],
    rootCaPem: server.caPem,
    onError: (error) => errors.push(error),
  })
  const text = server.kubeconfig({ server: url })
  const { caPem, adminToken } = server
  const made = await underTest('own', { url, caPem, adminToken, text, errors }, options)
  await controllers.idle()
  return {
    ...made.cluster,
    server,
    [Symbol.asyncDispose]: async () => {
      await made.stop()
      controllers.stop()
      await server.close()
    },
  }
}

/** The lab's controllers and nodes against a true server, which is emptied again afterwards. */
async function realCluster(
  server: RealApiServer,
  options: ClusterOptions,
): Promise<ClusterUnderTest> {
  const errors: Error[] = []
  const logger = createLogger('test', 'silent')
  const mirror = mirrorCluster(server.api, logger)
  await mirror.synced(BUILT_IN_TYPES.map((type) => type.id))
  const controllers = startControllers({
    api: mirror,
    rootCaPem: server.caPem,
    confirmGone: mirror.isGone,
    onError: (error) => errors.push(error),
  })
  const { url, caPem, adminToken, api } = server
  const { readFileSync } = await import('node:fs')
  const text = readFileSync(server.kubeconfig, 'utf8')
  // What the controllers furnish every namespace with is part of the empty cluster.
  await untilFurnished(api)
  const before = await uids(api)
  const made = await underTest('real', { url, caPem, adminToken, text, errors }, options)
  return {
    ...made.cluster,
    [Symbol.asyncDispose]: async () => {
      await empty(api, before)
      await made.stop()
      controllers.stop()
      await mirror.close()
    },
  }
}

interface Served {
  readonly url: string
  readonly caPem: string
  readonly adminToken: string
  /** Of its kubeconfig. */
  readonly text: string
  readonly errors: readonly Error[]
}

async function underTest(
  kind: ClusterUnderTest['kind'],
  { text, ...served }: Served,
  options: ClusterOptions,
): Promise<{ readonly cluster: ClusterUnderTest; readonly stop: () => Promise<void> }> {
  const directory = mkdtempSync(join(tmpdir(), 'ambit-apiserver-'))
  const kubeconfig = join(directory, 'kubeconfig')
  writeFileSync(kubeconfig, text, { mode: 0o600 })
  const access = await loadKubeConfig({ kubeconfig })
  if (!access.ok) throw access.error
  const kubeApi = createKubeApi(access.value)
  const api = apiUnderTest(kubeApi)
  for (let index = 0; index < (options.nodes ?? 2); index += 1)
    await addNode(api, `node-${'abc'[index] ?? index}`)
  const stopKubelet = options.kubelet === false ? () => undefined : pretendKubelet(api)
  const env = { ...process.env, KUBECONFIG: kubeconfig, KUBECACHEDIR: join(directory, 'cache') }
  const children = new Set<ChildProcess>()
  const stop = async (): Promise<void> => {
    for (const child of children) child.kill('SIGKILL')
    stopKubelet()
    rmSync(directory, { recursive: true, force: true })
    return Promise.resolve()
  }
  const cluster: ClusterUnderTest = {
    kind,
    api,
    ...served,
    kubeconfig,
    kubectl: (args, stdin, token) =>
      new Promise((resolve) => {
        const child = execFile(
          'kubectl',
          token === undefined ? args : [...args, `--token=${token}`, `--kubeconfig=${kubeconfig}`],
          { env, timeout: KUBECTL_DEADLINE_MS, maxBuffer: 64 * 1024 * 1024 },
          (error, stdout, stderr) => {
            const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1
            resolve({ code, stdout, stderr })
          },
        )
        child.stdin?.end(stdin ?? '')
      }),
    spawnKubectl: (args) => {
      const child = spawn('kubectl', args, { env, stdio: ['pipe', 'pipe', 'pipe'] })
      children.add(child)
      return child
    },
    fetch: (path, init = {}) => request(served, path, init),
    [Symbol.asyncDispose]: stop,
  }
  return { cluster, stop }
}

/** `deployments.apps` as a path; of other versions than v1 there is none. */
function resourceOf(id: string): KubeResource {
  const known = BUILT_IN_TYPES.find((type) => type.id === id)
  if (known !== undefined) return known
  const [plural = '', ...group] = id.split('.')
  return defineResource(group.join('.'), 'v1', plural, '')
}

const target = (namespace: string | undefined, name: string) =>
  namespace === undefined ? { name } : { namespace, name }

/** What a server answered has name, uid and version. */
const whole = (object: KubeObject): StoredObject => object as KubeObject & StoredObject

function apiUnderTest(api: KubeApi): ApiUnderTest {
  const typed = (resource: KubeResource, object: KubeInput, namespace: string | undefined) => ({
    apiVersion: resource.group === '' ? resource.version : `${resource.group}/${resource.version}`,
    kind: resource.kind,
    ...object,
    metadata: { ...object.metadata, ...(namespace === undefined ? {} : { namespace }) },
  })
  const stored = async (answer: Promise<Result<KubeObject, KubeFailure>>): Answer => {
    const result = await answer
    return result.ok ? ok(whole(result.value)) : result
  }
  return {
    get: (id, namespace, name) => stored(api.get(resourceOf(id), target(namespace, name))),
    list: async (id, options = {}) => {
      const { namespace, labelSelector, fieldSelector } = options
      const found = await api.list(resourceOf(id), {
        ...(namespace === undefined ? {} : { namespace }),
        ...(labelSelector === undefined ? {} : { labelSelector }),
        ...(fieldSelector === undefined ? {} : { fieldSelector }),
      })
      return found.ok ? ok(found.value.items.map(whole)) : found
    },
    create: (id, namespace, object) =>
      stored(api.create(resourceOf(id), typed(resourceOf(id), object, namespace))),
    update: (id, namespace, object) =>
      stored(api.update(resourceOf(id), typed(resourceOf(id), object, namespace))),
    patch: (id, namespace, name, { type, body }, subresource) =>
      stored(
        api.patch(resourceOf(id), target(namespace, name), body, {
          type,
          ...(subresource === undefined ? {} : { subresource }),
        }),
      ),
    delete: async (id, namespace, name, options = {}) => {
      const { gracePeriodSeconds, propagationPolicy, preconditions } = options
      return api.delete(resourceOf(id), target(namespace, name), {
        ...(gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }),
        ...(propagationPolicy === undefined ? {} : { propagationPolicy }),
        ...(preconditions?.uid === undefined ? {} : { uid: preconditions.uid }),
      })
    },
    watch: (id, onEvent) => {
      const watched = watchResource(api, resourceOf(id), {
        logger: createLogger('test', 'silent'),
        added: (object) => onEvent({ type: 'ADDED', object: whole(object) }),
        updated: (_, object) => onEvent({ type: 'MODIFIED', object: whole(object) }),
        deleted: (object) => onEvent({ type: 'DELETED', object: whole(object) }),
      })
      return () => void watched.close()
    },
    createToken: async ({ namespace, serviceAccount, audiences, expirationSeconds, pod }) => {
      const asked: KubeObject & { spec: object; status?: IssuedToken } = {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        metadata: { namespace, name: serviceAccount },
        spec: {
          audiences: audiences ?? [],
          ...(expirationSeconds === undefined ? {} : { expirationSeconds }),
          ...(pod === undefined
            ? {}
            : { boundObjectRef: { apiVersion: 'v1', kind: 'Pod', ...pod } }),
        },
      }
      const accounts = defineResource<typeof asked>('', 'v1', 'serviceaccounts', 'TokenRequest')
      const answer = await api.create(accounts, asked, { subresource: 'token' })
      if (!answer.ok) return err(answer.error)
      if (answer.value.status === undefined) throw new Error('the server gave no token')
      return ok(answer.value.status)
    },
  }
}

/** Makes a node that is ready. */
export async function addNode(
  api: ApiUnderTest,
  name: string,
  labels: { [key: string]: string } = {},
): Promise<void> {
  const made = await api.create('nodes', undefined, {
    metadata: { name, labels: { 'kubernetes.io/hostname': name, ...labels } },
  })
  if (!made.ok) throw new Error(made.error.message)
  // A server takes a status by its own way only.
  const status = {
    conditions: [{ type: 'Ready', status: 'True' }],
    nodeInfo: { kubeletVersion: 'v1.32.0' },
    addresses: [{ type: 'InternalIP', address: '172.30.0.11' }],
  }
  const ready = await api.patch(
    'nodes',
    undefined,
    name,
    { type: 'merge', body: { status } },
    'status',
  )
  if (!ready.ok) throw new Error(ready.error.message)
}

/** Pretends to run pods: bound ones get an address and are ready; deleted ones go. */
function pretendKubelet(api: ApiUnderTest): () => void {
  let next = 2
  const started = new Set<string>()
  const start = async (pod: StoredObject): Promise<void> => {
    if (started.has(pod.metadata.uid)) return
    started.add(pod.metadata.uid)
    const ip = `10.244.0.${next}`
    const ip6 = `fd98:244::${next.toString(16)}`
    next += 1
    const status = {
      phase: 'Running',
      podIP: ip,
      podIPs: [{ ip }, { ip: ip6 }],
      conditions: [{ type: 'Ready', status: 'True' }],
      containerStatuses: [
        {
          name: 'main',
          image: 'host',
          imageID: '',
          ready: true,
          restartCount: 0,
          state: { running: {} },
        },
      ],
    }
    const { namespace, name } = pod.metadata
    await api.patch('pods', namespace, name, { type: 'merge', body: { status } }, 'status')
  }
  return api.watch('pods', ({ type, object }) => {
    if (type === 'DELETED' || object.spec?.nodeName === undefined) return
    const { namespace, name, uid, deletionTimestamp, annotations } = object.metadata
    if (deletionTimestamp !== undefined)
      void api.delete('pods', namespace, name, { gracePeriodSeconds: 0, preconditions: { uid } })
    else if (object.status?.phase === 'Pending' && annotations?.hold === undefined)
      void start(object)
  })
}

async function request(
  { url, caPem, adminToken }: Pick<Served, 'url' | 'caPem' | 'adminToken'>,
  path: string,
  init: { method?: string; body?: unknown; headers?: object; token?: string },
): Promise<Response> {
  const body = init.body === undefined ? undefined : JSON.stringify(init.body)
  const token = init.token ?? adminToken
  return new Promise((resolve, reject) => {
    const outgoing = httpsRequest(
      `${url}${path}`,
      {
        method: init.method ?? 'GET',
        ca: caPem,
        agent: false,
        headers: {
          ...(token === '' ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...init.headers,
        },
      },
      (incoming) => {
        const chunks: Buffer[] = []
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
        incoming.on('end', () =>
          resolve(new Response(Buffer.concat(chunks), { status: incoming.statusCode ?? 0 })),
        )
        incoming.on('error', reject)
      },
    )
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

/** Collects a stream and resolves when its text satisfies a condition; rejects at the deadline. */
export function untilOutput(
  stream: NodeJS.ReadableStream,
  isEnough: (text: string) => boolean,
  deadlineMs = 10_000,
): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    const timer = setTimeout(
      () => reject(new Error(`output did not come in ${deadlineMs} ms; so far: ${text}`)),
      deadlineMs,
    )
    stream.on('data', (chunk: Buffer) => {
      text += chunk.toString('utf8')
      if (!isEnough(text)) return
      clearTimeout(timer)
      resolve(text)
    })
  })
}

/** Resolves when an object of a resource satisfies a condition; rejects at the deadline. */
export function untilObject(
  api: ApiUnderTest,
  resource: string,
  isIt: (object: StoredObject) => boolean,
  deadlineMs = 10_000,
): Promise<StoredObject> {
  return new Promise((resolve, reject) => {
    let stop = (): void => undefined
    let last: StoredObject | undefined
    const timer = setTimeout(() => {
      stop()
      const seen = last === undefined ? 'none at all' : JSON.stringify(last)
      reject(new Error(`no ${resource} object as awaited in ${deadlineMs} ms; the last: ${seen}`))
    }, deadlineMs)
    stop = api.watch(resource, ({ type, object }) => {
      last = object
      if (type === 'DELETED' || !isIt(object)) return
      clearTimeout(timer)
      setImmediate(() => stop())
      resolve(object)
    })
  })
}

/** Resolves when the names of a resource's objects are exactly these; rejects at the deadline, saying what is there. */
export async function untilNames(
  api: ApiUnderTest,
  resource: string,
  options: ListOptions,
  wanted: readonly string[],
): Promise<void> {
  const names = new Map<string, string>()
  const isThere = (): boolean =>
    JSON.stringify([...names.values()].toSorted()) === JSON.stringify([...wanted].toSorted())
  for (const deadline = Date.now() + 10_000; ; ) {
    const changed = Promise.withResolvers<void>()
    const stop = api.watch(resource, () => changed.resolve())
    const found = await api.list(resource, options)
    if (!found.ok) throw new Error(found.error.message)
    names.clear()
    for (const { metadata } of found.value) names.set(metadata.uid, metadata.name)
    if (isThere()) {
      stop()
      return
    }
    const left = deadline - Date.now()
    if (left <= 0) {
      stop()
      throw new Error(
        `${resource}: awaited ${wanted.join(', ')}; there are ${[...names.values()].join(', ')}`,
      )
    }
    const timer = setTimeout(() => changed.resolve(), Math.min(left, 200))
    await changed.promise
    clearTimeout(timer)
    stop()
  }
}

const CRDS = 'customresourcedefinitions.apiextensions.k8s.io'
/** Of these a server keeps its own: it makes them again, or they are not ours to judge. */
const KEPT = new Set(['events', 'leases.coordination.k8s.io'])

/** Every namespace gets an account and the root: what is made again whenever it is taken away is part of the empty cluster. */
async function untilFurnished(api: KubeApi): Promise<void> {
  for (const deadline = Date.now() + 20_000; ; ) {
    const spaces = await api.list(resourceOf('namespaces'), {})
    if (!spaces.ok) throw new Error(spaces.error.message)
    const answers = await Promise.all(
      spaces.value.items.flatMap(({ metadata }) => [
        api.get(resourceOf('serviceaccounts'), target(metadata?.name, 'default')),
        api.get(resourceOf('configmaps'), target(metadata?.name, 'kube-root-ca.crt')),
      ]),
    )
    if (answers.every((answer) => answer.ok)) return
    if (Date.now() > deadline) throw new Error('the controllers do not furnish every namespace')
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

async function uids(api: KubeApi): Promise<ReadonlySet<string>> {
  const seen = new Set<string>()
  for (const type of BUILT_IN_TYPES) {
    const found = await api.list(type, {})
    if (found.ok) for (const { metadata } of found.value.items) seen.add(metadata?.uid ?? '')
  }
  return seen
}

/** Takes away what a story has made: namespaces with all in them, and the rest without grace. */
async function empty(api: KubeApi, before: ReadonlySet<string>): Promise<void> {
  for (const deadline = Date.now() + 30_000; ; ) {
    const left: string[] = []
    for (const type of BUILT_IN_TYPES.toSorted((one, other) => rank(one.id) - rank(other.id))) {
      if (KEPT.has(type.id)) continue
      const found = await api.list(type, {})
      if (!found.ok) continue
      for (const { metadata = {} } of found.value.items) {
        const { namespace, name = '', uid = '', finalizers = [] } = metadata
        if (before.has(uid)) continue
        left.push(`${type.id} ${namespace ?? ''}/${name}`)
        if (finalizers.some((each) => each.startsWith('test/')))
          await api.patch(type, target(namespace, name), { metadata: { finalizers: null } })
        await api.delete(type, target(namespace, name), { gracePeriodSeconds: 0 })
      }
    }
    if (left.length === 0) return
    if (Date.now() > deadline) throw new Error(`a story leaves ${left.join(', ')}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

/** Owners before what they own, so that nothing is made again. */
const rank = (id: string): number =>
  id === 'namespaces' || id === CRDS ? 0 : id.endsWith('.apps') || id === 'services' ? 1 : 2
