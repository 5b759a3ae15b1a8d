// SPDX-License-Identifier: Apache-2.0
// The contract suite's cluster under test: an API server (the lab's own, or a true kube-apiserver with etcd), the lab's
// controllers against it, nodes, and a kubelet that only pretends (pods become ready at once and go when they are
// deleted). Tests see both servers through the same HTTP API and the same kubectl.

import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { BUILT_IN_TYPES } from '../../lab/kubernetes/objects/resource-types.ts'
import {
  type ApiServer,
  type ApiServerOptions,
  startApiServer,
} from '../../lab/kubernetes/own/apiserver/index.ts'
import { startControllers } from '../../lab/kubernetes/own/controllers/index.ts'
import {
  missingPrograms,
  type RealApiServer,
  startRealApiServer,
} from '../../lab/kubernetes/real/api-server.ts'
import { mirrorCluster } from '../../lab/kubernetes/real/mirror.ts'
import { loadKubeConfig } from '../../mesh/kube/access.ts'
import { createKubeApi } from '../../mesh/kube/api.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'
import { type ApiUnderTest, apiUnderTest } from './api-under-test.ts'
import { empty, uids, untilFurnished } from './emptying.ts'
import { addNode, pretendKubelet } from './pretend-kubelet.ts'
import { type ServerAccess, sendRequest } from './send-request.ts'

/** How long any single kubectl call may take. */
const KUBECTL_DEADLINE_MS = 180_000
/** The lab's own, so that addresses look the same on both servers. */
const SERVICE_RANGES = ['10.96.0.0/16', 'fd98:96::/112']

export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
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
  kubectl(
    args: readonly string[],
    stdin?: string,
    token?: string,
    environment?: Readonly<Record<string, string>>,
  ): Promise<Ran>
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
  void t.test(`${name} (kube-apiserver)`, { skip: lacking }, async (t) => {
    shared ??= startRealApiServer(SERVICE_RANGES)
    await using cluster = await realCluster(await shared, wanted)
    await story(t, cluster)
  })
}

// A true server takes seconds to start, and its stories run one after the other.
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

interface Served extends ServerAccess {
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
    kubectl: (args, stdin, token, environment) =>
      new Promise((resolve) => {
        const child = execFile(
          'kubectl',
          token === undefined ? args : [...args, `--token=${token}`, `--kubeconfig=${kubeconfig}`],
          {
            env: { ...env, ...environment },
            timeout: KUBECTL_DEADLINE_MS,
            maxBuffer: 64 * 1024 * 1024,
          },
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
    fetch: (path, init = {}) => sendRequest(served, path, init),
    [Symbol.asyncDispose]: stop,
  }
  return { cluster, stop }
}
