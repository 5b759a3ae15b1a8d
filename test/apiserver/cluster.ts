// SPDX-License-Identifier: Apache-2.0
// A cluster in one process for these tests: API server, controllers, nodes, and a kubelet that only
// pretends (pods become ready at once and go when they are deleted). Plus the real kubectl against it.

import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  type ApiServer,
  type ApiServerOptions,
  startApiServer,
} from '../../lab/kubernetes/own/apiserver/index.ts'
import type { StoredObject } from '../../lab/kubernetes/objects/stored-object.ts'
import type { LocalApi } from '../../lab/kubernetes/own/apiserver/local-api.ts'
import { type Controllers } from '../../lab/kubernetes/own/controllers/index.ts'
import { startControllers } from '../../lab/kubernetes/own/controllers/index.ts'

/** How long any single kubectl call may take. */
const KUBECTL_DEADLINE_MS = 20_000

export type Ran = { readonly code: number; readonly stdout: string; readonly stderr: string }

export type Cluster = {
  readonly server: ApiServer
  readonly api: LocalApi
  readonly controllers: Controllers
  readonly url: string
  readonly errors: readonly Error[]
  /** Runs kubectl; never rejects because of its exit code. */
  kubectl(args: readonly string[], stdin?: string, token?: string): Promise<Ran>
  /** Starts kubectl for commands that go on (get -w). */
  spawnKubectl(args: readonly string[]): ChildProcess
  fetch(
    path: string,
    init?: { method?: string; body?: unknown; headers?: object; token?: string },
  ): Promise<Response>
  [Symbol.asyncDispose](): Promise<void>
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

/** Makes a node that is ready. */
export function addNode(api: LocalApi, name: string, labels: { [key: string]: string } = {}): void {
  const made = api.create('nodes', undefined, {
    metadata: { name, labels: { 'kubernetes.io/hostname': name, ...labels } },
    status: {
      conditions: [{ type: 'Ready', status: 'True' }],
      nodeInfo: { kubeletVersion: 'v1.32.0' },
      addresses: [{ type: 'InternalIP', address: '172.30.0.11' }],
    },
  })
  if (!made.ok) throw new Error(made.error.message)
}

/** Pretends to run pods: bound ones get an address and are ready; deleted ones go. */
function pretendKubelet(api: LocalApi): () => void {
  let next = 2
  const start = (pod: StoredObject): void => {
    const ip = `10.244.0.${next}`
    const ip6 = `fd98:244::${next.toString(16)}`
    next += 1
    api.patch(
      'pods',
      pod.metadata.namespace,
      pod.metadata.name,
      {
        type: 'merge',
        body: {
          status: {
            phase: 'Running',
            podIP: ip,
            podIPs: [{ ip }, { ip: ip6 }],
            conditions: [{ type: 'Ready', status: 'True' }],
            containerStatuses: [
              { name: 'main', ready: true, restartCount: 0, state: { running: {} } },
            ],
          },
        },
      },
      'status',
    )
  }
  return api.watch('pods', {}, ({ type, object }) => {
    if (type === 'DELETED' || object.spec?.nodeName === undefined) return
    const { namespace, name } = object.metadata
    setImmediate(() => {
      if (object.metadata.deletionTimestamp !== undefined)
        api.delete('pods', namespace, name, { gracePeriodSeconds: 0 })
      else if (
        object.status?.phase === 'Pending' &&
        object.metadata.annotations?.hold === undefined
      )
        start(object)
    })
  })
}

/** Starts a cluster; dispose of it with `await using`. */
export async function startCluster(
  options: ApiServerOptions & { readonly nodes?: number; readonly kubelet?: boolean } = {},
): Promise<Cluster> {
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
  for (let index = 0; index < (options.nodes ?? 2); index += 1)
    addNode(server.api, `node-${'abc'[index] ?? index}`)
  const stopKubelet = options.kubelet === false ? undefined : pretendKubelet(server.api)
  const directory = mkdtempSync(join(tmpdir(), 'ambit-apiserver-'))
  const kubeconfig = join(directory, 'kubeconfig')
  writeFileSync(kubeconfig, server.kubeconfig({ server: url }), { mode: 0o600 })
  const env = { ...process.env, KUBECONFIG: kubeconfig, KUBECACHEDIR: join(directory, 'cache') }
  const children = new Set<ChildProcess>()

  const kubectl: Cluster['kubectl'] = (args, stdin, token) =>
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
    })

  await controllers.idle()
  return {
    server,
    api: server.api,
    controllers,
    url,
    errors,
    kubectl,
    spawnKubectl: (args) => {
      const child = spawn('kubectl', args, { env, stdio: ['pipe', 'pipe', 'pipe'] })
      children.add(child)
      return child
    },
    fetch: (path, init = {}) => request(server, `${url}${path}`, init),
    [Symbol.asyncDispose]: async () => {
      for (const child of children) child.kill('SIGKILL')
      stopKubelet?.()
      controllers.stop()
      await server.close()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

async function request(
  server: ApiServer,
  url: string,
  init: { method?: string; body?: unknown; headers?: object; token?: string },
): Promise<Response> {
  const { request: httpsRequest } = await import('node:https')
  const body = init.body === undefined ? undefined : JSON.stringify(init.body)
  const token = init.token ?? server.adminToken
  return new Promise((resolve, reject) => {
    const outgoing = httpsRequest(
      url,
      {
        method: init.method ?? 'GET',
        ca: server.caPem,
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
  api: LocalApi,
  resource: string,
  isIt: (object: StoredObject) => boolean,
  deadlineMs = 10_000,
): Promise<StoredObject> {
  return new Promise((resolve, reject) => {
    let stop = (): void => undefined
    const timer = setTimeout(() => {
      stop()
      reject(new Error(`no ${resource} object as awaited in ${deadlineMs} ms`))
    }, deadlineMs)
    stop = api.watch(resource, {}, ({ type, object }) => {
      if (type === 'DELETED' || !isIt(object)) return
      clearTimeout(timer)
      setImmediate(() => stop())
      resolve(object)
    })
  })
}
