// SPDX-License-Identifier: Apache-2.0
// A cluster for controller tests: the lab's API server behind a proxy that the test can cut, two nodes with an agent
// each, and a pod of the shop on node b.

import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { type Server, type Socket, connect, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { ControllerConfig } from '../../controller/config.ts'
import { type RunningController, startController } from '../../controller/controller.ts'
import { startApiServer } from '../../lab/kubernetes/own/apiserver/index.ts'
import type { ApiServer } from '../../lab/kubernetes/own/apiserver/index.ts'
import { CaClient } from '../../mesh/identity/ca-client.ts'
import { createKeyAndCsr } from '../../mesh/identity/csr.ts'
import type { CaFailure, SignedChain } from '../../mesh/identity/types.ts'
import {
  CONFIG_MAPS,
  type ConfigMap,
  type KubeApi,
  NAMESPACES,
  NODES,
  PODS,
  type Pod,
  SERVICE_ACCOUNTS,
  createKubeApi,
  loadKubeConfig,
  watchResource,
} from '../../mesh/kube/index.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import type { Result } from '../../mesh/result.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'
import { isLogLevel, LogLevels } from '../../mesh/telemetry/log-levels.ts'
import { within } from '../support/until.ts'

export const log = createLogger(
  'test',
  isLogLevel(process.env.TEST_LOG_LEVEL) ? process.env.TEST_LOG_LEVEL : 'silent',
)
/** Short enough for a test, long enough for a busy machine. */
const REPORT_TIMINGS = { beatMs: 300, pauseMs: 50, abandonedMs: 600_000 }
/** Who ends gives its lease back: nobody waits for it to run out, and nobody loses it while this process has no CPU. */
const LEASE_TIMINGS = { leaseMs: 30_000, renewDeadlineMs: 20_000, retryMs: 200 }

/** The part of tap that a cluster needs to clean up after itself. */
export interface TestScope {
  teardown(fn: () => Promise<void> | void): void
  testdir(content: Record<string, never>): string
}

/**
 * TCP to the API server, until the test cuts it. A wire, and no API: FaultyApi answers in a server's stead, to whoever asks and
 * in plain HTTP, while here a controller, perhaps as a process, meets the whole server by its kubeconfig, its TLS and its tokens.
 * A door that passes TLS through would have nothing of FaultyApi.
 */
export class CuttableProxy {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #isCut = false

  constructor(targetPort: () => number) {
    this.#server = createServer((client) => {
      if (this.#isCut) {
        client.destroy()
        return
      }
      const upstream = connect(targetPort(), '127.0.0.1')
      for (const [socket, other] of [
        [client, upstream],
        [upstream, client],
      ] as const) {
        this.#sockets.add(socket)
        // What a cut does to a socket is the point of this proxy; the ends see it by themselves.
        socket.on('error', () => other.destroy())
        socket.on('close', () => {
          this.#sockets.delete(socket)
          other.destroy()
        })
        socket.pipe(other)
      }
    })
  }

  async listen(): Promise<number> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return (this.#server.address() as AddressInfo).port
  }

  cut(): void {
    this.#isCut = true
    for (const socket of this.#sockets) socket.destroy()
  }

  mend(): void {
    this.#isCut = false
  }

  close(): void {
    this.cut()
    this.#server.close()
  }
}

export class SmallCluster {
  readonly server: ApiServer
  readonly proxy: CuttableProxy
  readonly dir: string
  readonly kubeconfig: string
  /** Straight to the API server, whatever the proxy does. */
  readonly admin: KubeApi
  /** Through the proxy, as the controller goes. */
  readonly api: KubeApi
  /** The lines of the audit of all replicas. */
  readonly audit: string[] = []
  readonly #scope: TestScope
  #files = 0

  constructor(
    parts: Pick<SmallCluster, 'server' | 'proxy' | 'dir' | 'kubeconfig' | 'admin' | 'api'>,
    scope: TestScope,
  ) {
    this.server = parts.server
    this.proxy = parts.proxy
    this.dir = parts.dir
    this.kubeconfig = parts.kubeconfig
    this.admin = parts.admin
    this.api = parts.api
    this.#scope = scope
  }

  /** Starts a replica of the controller. */
  async controller(options: Partial<ControllerConfig> = {}): Promise<RunningController> {
    const starting = new AbortController()
    this.#scope.teardown(() => starting.abort())
    const started = await startController({
      config: { ...controllerConfig(), ...options },
      api: this.api,
      log,
      writeAudit: (line) => void this.audit.push(line),
      levels: new LogLevels('controller', 'silent'),
      leaseTimings: LEASE_TIMINGS,
      reportTimings: REPORT_TIMINGS,
      signal: starting.signal,
    })
    if (!started.ok) throw started.error
    this.#scope.teardown(() => started.value.stop())
    return started.value
  }

  async namespace(name: string): Promise<void> {
    expectOk(await this.admin.create(NAMESPACES, { metadata: { name } }))
  }

  /** Creates a pod with its service account, already running on its node. */
  async pod(
    namespace: string,
    name: string,
    account: string,
    nodeName: string,
    labels: Readonly<Record<string, string>> = {},
  ): Promise<Pod> {
    const serviceAccount = { metadata: { namespace, name: account } }
    const created = await this.admin.create(SERVICE_ACCOUNTS, serviceAccount)
    if (!created.ok && created.error.kind !== 'alreadyExists')
      throw new Error(created.error.message)
    const pod = expectOk(
      await this.admin.create(PODS, {
        metadata: { namespace, name, labels: { app: account, ...labels } },
        spec: {
          nodeName,
          serviceAccountName: account,
          containers: [{ name: 'app', image: 'host', command: ['sleep', '1000'] }],
        },
      }),
    )
    const status = { phase: 'Running', podIP: '10.244.2.7', podIPs: [{ ip: '10.244.2.7' }] }
    expectOk(
      await this.admin.patch(PODS, { namespace, name }, { status }, { subresource: 'status' }),
    )
    return pod
  }

  /** A file with a token of the pod's service account, bound to the pod. */
  async tokenFile(pod: Pod): Promise<string> {
    const { namespace = '', name = '', uid = '' } = pod.metadata ?? {}
    const issued = await this.server.api.createToken({
      namespace,
      serviceAccount: pod.spec?.serviceAccountName ?? '',
      audiences: ['istio-ca'],
      pod: { name, uid },
    })
    if (!issued.ok) throw new Error(issued.error.message)
    return this.file(issued.value.token)
  }

  file(content: string): string {
    this.#files += 1
    const path = join(this.dir, `file-${this.#files}`)
    writeFileSync(path, content)
    return path
  }

  /** Asks a controller for a certificate with a token. */
  async ask(
    controller: Pick<RunningController, 'grpcPort' | 'rootsPem'>,
    tokenFile: string,
    identity: string,
  ): Promise<Result<SignedChain, CaFailure>> {
    const client = new CaClient({
      address: `localhost:${controller.grpcPort}`,
      serverName: 'ambit-controller.ambit-system.svc',
      roots: this.file(controller.rootsPem),
      tokenFile,
      clusterId: 'Kubernetes',
    })
    try {
      const { csrPem } = await createKeyAndCsr(identity as SpiffeId)
      const request = { identity: identity as SpiffeId, csrPem, ttlSeconds: 3600 }
      return await client.sign(request, AbortSignal.timeout(10_000))
    } finally {
      client.close()
    }
  }

  /** Resolves once the namespace's published root is right for the predicate. */
  async publishedRoot(
    namespace: string,
    isRight: (configMap: ConfigMap) => boolean,
  ): Promise<ConfigMap> {
    const { promise, resolve } = Promise.withResolvers<ConfigMap>()
    const look = (configMap: ConfigMap): void => {
      if (isRight(configMap)) resolve(configMap)
    }
    const watch = watchResource(this.admin, CONFIG_MAPS, {
      namespace,
      fieldSelector: 'metadata.name=istio-ca-root-cert',
      logger: log,
      added: look,
      updated: (_previous, current) => look(current),
    })
    try {
      return await within(promise, `the right root in ${namespace}`)
    } finally {
      await watch.close()
    }
  }
}

/** Starts the API server and fills it. */
export async function smallCluster(t: TestScope): Promise<SmallCluster> {
  const server = await startApiServer()
  const { port } = await server.listen('127.0.0.1', 0)
  const proxy = new CuttableProxy(() => port)
  const proxyPort = await proxy.listen()
  t.teardown(async () => {
    proxy.close()
    await server.close()
  })
  const dir = t.testdir({})
  const kubeconfig = join(dir, 'kubeconfig')
  writeFileSync(kubeconfig, server.kubeconfig({ server: `https://127.0.0.1:${proxyPort}` }))
  const direct = join(dir, 'kubeconfig-direct')
  writeFileSync(direct, server.kubeconfig({ server: `https://127.0.0.1:${port}` }))
  const api = createKubeApi(expectOk(await loadKubeConfig({ kubeconfig })))
  const admin = createKubeApi(expectOk(await loadKubeConfig({ kubeconfig: direct })))
  const cluster = new SmallCluster({ server, proxy, dir, kubeconfig, admin, api }, t)
  await cluster.namespace('ambit-system')
  await cluster.namespace('shop')
  for (const name of ['node-a', 'node-b'])
    expectOk(await admin.create(NODES, { metadata: { name } }))
  return cluster
}

function controllerConfig(): ControllerConfig {
  return {
    namespace: 'ambit-system',
    serviceName: 'ambit-controller',
    podName: 'replica',
    listen: { host: '127.0.0.1', port: 0 },
    healthAddress: { host: '127.0.0.1', port: 0 },
    adminAddress: { host: '127.0.0.1', port: 0 },
    trustDomain: 'cluster.local',
    trustDomainAliases: [],
    rootNamespace: 'istio-system',
    clusterId: 'Kubernetes',
    clusterDomain: 'cluster.local',
    network: '',
    caSecret: 'ambit-ca-secret',
    plugInCaSecret: 'cacerts',
    certificateSigner: '',
    tokenAudience: 'istio-ca',
    waypointImage: 'host',
    waypointCommand: ['/opt/ambit/cli/bin/ambit'],
    waypointUser: 1337,
    networkPolicies: 'enforce',
    trustedNodeAccounts: ['ambit-system/ambit-agent'],
    agentTaint: '',
    servingNames: [],
    logLevel: 'silent',
    logFormat: 'json',
    otlpIntervalMs: 60_000,
  }
}

/** The value of a result that the test takes for granted. */
export function expectOk<T>(result: Result<T, { readonly message: string }>): T {
  if (!result.ok) throw new Error(result.error.message)
  return result.value
}
