// SPDX-License-Identifier: Apache-2.0
// What a pod costs the controller in memory. Runs the controller of a source tree as it is run in a cluster, over an API
// server with 10,000 typical Pods (4.9 KB of JSON, managedFields among it), and again over one without; the difference of
// what is left after a full garbage collection, divided by the pods, is the figure. It counts everything: watches, facts,
// model, encoded resources, the certificate authority's index. The inspector is asked, so any tree can be measured.
// With --policies it measures what an AuthorizationPolicy of ten rules costs beside them, too.
// Run by itself: node bench/controller-heap.ts [--tree DIRECTORY] [--pods N] [--policies N]

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { EndpointSlice, Pod, PolicyResource, Service } from '../mesh/kube/index.ts'

const { values } = parseArgs({
  options: {
    tree: { type: 'string', default: join(import.meta.dirname, '..') },
    pods: { type: 'string', default: '10000' },
    policies: { type: 'string', default: '0' },
  },
})

const SERVICES = 1_000
const NAMESPACES = 50
const NODES = 100
const RESOURCE_VERSION = '1000000'
/** Translating and encoding what was listed; longer than any machine of ours needs. */
const SETTLE_MS = 3_000
const READY_DEADLINE_MS = 120_000
const COLLECTIONS = 4

interface Memory {
  readonly heapUsed: number
  readonly external: number
  readonly arrayBuffers: number
}

const ago = '2026-03-01T08:30:00Z'
const hash = (index: number): string => (0x6b7f9c4d58 + index).toString(16).slice(0, 10)
const uid = (index: number): string => {
  const hex = index.toString(16).padStart(12, '0')
  return `3f2504e0-4f89-41d3-9a0c-${hex}`
}

function metadata(index: number, service: number): NonNullable<Pod['metadata']> {
  const app = `service-${service}`
  const replicaSet = `${app}-${hash(service)}`
  return {
    name: `${replicaSet}-${(index + 60_466_176).toString(36).slice(-5)}`,
    generateName: `${replicaSet}-`,
    namespace: `namespace-${service % NAMESPACES}`,
    uid: uid(index),
    resourceVersion: String(500_000 + index),
    creationTimestamp: ago,
    labels: {
      app,
      'app.kubernetes.io/name': app,
      'app.kubernetes.io/instance': `${app}-production`,
      'app.kubernetes.io/version': '1.14.2',
      'pod-template-hash': hash(service),
    },
    annotations: {
      'ambient.istio.io/redirection': 'enabled',
      'prometheus.io/scrape': 'true',
      'checksum/config': '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
    },
    ownerReferences: [
      {
        apiVersion: 'apps/v1',
        kind: 'ReplicaSet',
        name: replicaSet,
        uid: uid(1_000_000 + service),
        controller: true,
        blockOwnerDeletion: true,
      },
    ],
    managedFields: managedFields(uid(1_000_000 + service)),
  }
}

function managedFields(owner: string): NonNullable<NonNullable<Pod['metadata']>['managedFields']> {
  const f = (...names: readonly string[]): Record<string, object> =>
    Object.fromEntries(names.map((name) => [`f:${name}`, {}]))
  const condition = (type: string) => ({
    [`k:{"type":"${type}"}`]: { '.': {}, ...f('lastProbeTime', 'lastTransitionTime', 'status') },
  })
  return [
    {
      manager: 'kube-controller-manager',
      operation: 'Update',
      apiVersion: 'v1',
      time: ago,
      fieldsType: 'FieldsV1',
      fieldsV1: {
        'f:metadata': {
          ...f('generateName'),
          'f:labels': { '.': {}, ...f('app', 'app.kubernetes.io/name', 'pod-template-hash') },
          'f:ownerReferences': { '.': {}, [`k:{"uid":"${owner}"}`]: {} },
        },
        'f:spec': {
          'f:containers': {
            'k:{"name":"main"}': {
              '.': {},
              ...f('image', 'imagePullPolicy', 'name', 'ports', 'resources', 'env'),
              ...f('terminationMessagePath', 'terminationMessagePolicy'),
            },
          },
          ...f('dnsPolicy', 'enableServiceLinks', 'restartPolicy', 'schedulerName'),
          ...f('securityContext', 'serviceAccountName', 'terminationGracePeriodSeconds'),
        },
      },
    },
    {
      manager: 'kubelet',
      operation: 'Update',
      apiVersion: 'v1',
      time: ago,
      fieldsType: 'FieldsV1',
      subresource: 'status',
      fieldsV1: {
        'f:status': {
          'f:conditions': {
            ...condition('Initialized'),
            ...condition('ContainersReady'),
            ...condition('Ready'),
          },
          ...f('containerStatuses', 'hostIP', 'hostIPs', 'phase', 'podIP', 'podIPs', 'startTime'),
        },
      },
    },
  ]
}

function pod(index: number): Pod {
  const service = index % SERVICES
  const ip = address(index)
  const condition = (type: string) => ({ type, status: 'True', lastTransitionTime: ago })
  return {
    metadata: metadata(index, service),
    spec: {
      nodeName: `node-${index % NODES}`,
      serviceAccountName: `service-${service}`,
      serviceAccount: `service-${service}`,
      restartPolicy: 'Always',
      dnsPolicy: 'ClusterFirst',
      schedulerName: 'default-scheduler',
      terminationGracePeriodSeconds: 30,
      volumes: [
        {
          name: 'kube-api-access-x7k2p',
          projected: {
            defaultMode: 420,
            sources: [
              { serviceAccountToken: { expirationSeconds: 3607, path: 'token' } },
              {
                configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] },
              },
            ],
          },
        },
      ],
      containers: [
        {
          name: 'main',
          image: `registry.example.com/shop/service-${service}:1.14.2`,
          imagePullPolicy: 'IfNotPresent',
          ports: [
            { name: 'http', containerPort: 8080, protocol: 'TCP' },
            { name: 'metrics', containerPort: 9090, protocol: 'TCP' },
          ],
          env: [
            { name: 'LOG_LEVEL', value: 'info' },
            { name: 'DATABASE_URL', value: `postgres://db.namespace-${service % NAMESPACES}/shop` },
            {
              name: 'POD_IP',
              valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'status.podIP' } },
            },
          ],
          resources: {
            requests: { cpu: '100m', memory: '128Mi' },
            limits: { cpu: '1', memory: '256Mi' },
          },
          readinessProbe: {
            httpGet: { path: '/healthz', port: 'http', scheme: 'HTTP' },
            periodSeconds: 10,
            timeoutSeconds: 1,
            successThreshold: 1,
            failureThreshold: 3,
          },
          volumeMounts: [
            {
              name: 'kube-api-access-x7k2p',
              readOnly: true,
              mountPath: '/var/run/secrets/kubernetes.io/serviceaccount',
            },
          ],
          terminationMessagePath: '/dev/termination-log',
          terminationMessagePolicy: 'File',
        },
      ],
      tolerations: [
        {
          key: 'node.kubernetes.io/not-ready',
          operator: 'Exists',
          effect: 'NoExecute',
          tolerationSeconds: 300,
        },
        {
          key: 'node.kubernetes.io/unreachable',
          operator: 'Exists',
          effect: 'NoExecute',
          tolerationSeconds: 300,
        },
      ],
    },
    status: {
      phase: 'Running',
      hostIP: `172.18.0.${index % NODES}`,
      podIP: ip,
      podIPs: [{ ip }],
      startTime: ago,
      qosClass: 'Burstable',
      conditions: ['Initialized', 'Ready', 'ContainersReady', 'PodScheduled'].map(condition),
      containerStatuses: [
        {
          name: 'main',
          ready: true,
          started: true,
          restartCount: 0,
          image: `registry.example.com/shop/service-${service}:1.14.2`,
          imageID: `registry.example.com/shop/service-${service}@sha256:${'0a'.repeat(32)}`,
          containerID: `containerd://${index.toString(16).padStart(64, '0')}`,
          state: { running: { startedAt: ago } },
          lastState: {},
        },
      ],
    },
  }
}

const address = (index: number): string =>
  `10.${244 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`

function service(index: number): Service {
  const clusterIP = `10.96.${index >> 8}.${index & 255}`
  return {
    metadata: {
      name: `service-${index}`,
      namespace: `namespace-${index % NAMESPACES}`,
      uid: uid(2e6 + index),
    },
    spec: {
      clusterIP,
      clusterIPs: [clusterIP],
      selector: { app: `service-${index}` },
      ports: [{ name: 'http', port: 80, targetPort: 'http', protocol: 'TCP' }],
    },
  }
}

function slice(index: number, pods: number): EndpointSlice {
  const endpoints: EndpointSlice['endpoints'] = []
  for (let pod = index; pod < pods; pod += SERVICES) {
    const { name = '', namespace = '' } = metadata(pod, index)
    endpoints.push({
      addresses: [address(pod)],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: `node-${pod % NODES}`,
      targetRef: { kind: 'Pod', namespace, name, uid: uid(pod) },
      zone: 'zone-a',
    })
  }
  return {
    metadata: {
      name: `service-${index}-abcde`,
      namespace: `namespace-${index % NAMESPACES}`,
      uid: uid(3e6 + index),
      labels: { 'kubernetes.io/service-name': `service-${index}` },
    },
    addressType: 'IPv4',
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
    endpoints,
  }
}

/** Ten rules, each of a caller and a port, for the pods of one Service. */
function policy(index: number): PolicyResource {
  const service = index % SERVICES
  return {
    metadata: {
      name: `policy-${index}`,
      namespace: `namespace-${service % NAMESPACES}`,
      uid: uid(4e6 + index),
      resourceVersion: String(900_000 + index),
      creationTimestamp: ago,
      generation: 1,
    },
    spec: {
      selector: { matchLabels: { app: `service-${service}` } },
      action: 'ALLOW',
      rules: counted(10, (rule) => ({
        from: [{ source: { principals: [`cluster.local/ns/n-${index}/sa/caller-${rule}`] } }],
        to: [{ operation: { ports: [String(8080 + rule)] } }],
      })),
    },
  }
}

const counted = <T>(count: number, make: (index: number) => T): readonly T[] =>
  Array.from({ length: count }, (_, index) => make(index))

/** An API server that lists what it is given, never tells of a change, and believes every write. */
class Cluster {
  readonly #lists: ReadonlyMap<string, readonly object[]>
  readonly #unwatched: Set<string>
  readonly #watched = Promise.withResolvers<void>()
  /** Resolves when all lists have been taken in: a watch begins after its list. */
  readonly watched: Promise<void> = this.#watched.promise
  readonly #server: Server = createServer((request, response) => {
    this.#handle(request, response).catch((thrown: unknown) => response.destroy(thrown as Error))
  })

  constructor(pods: number, policies: number) {
    const named = (kind: string) => (index: number) => ({ metadata: { name: `${kind}-${index}` } })
    this.#lists = new Map<string, readonly object[]>([
      ['/api/v1/pods', counted(pods, pod)],
      ['/api/v1/services', counted(SERVICES, service)],
      ['/api/v1/nodes', counted(NODES, named('node'))],
      ['/api/v1/namespaces', counted(NAMESPACES, named('namespace'))],
      [
        '/apis/discovery.k8s.io/v1/endpointslices',
        counted(SERVICES, (index) => slice(index, pods)),
      ],
      ['/apis/security.istio.io/v1/authorizationpolicies', counted(policies, policy)],
    ])
    this.#unwatched = new Set(this.#lists.keys())
  }

  async listen(): Promise<number> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return (this.#server.address() as AddressInfo).port
  }

  close(): void {
    this.#server.closeAllConnections()
    this.#server.close()
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://cluster')
    const answer = (status: number, body: object): void => {
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(JSON.stringify(body))
    }
    let text = ''
    for await (const chunk of request) text += String(chunk)
    if (request.method !== 'GET') {
      answer(request.method === 'POST' ? 201 : 200, text === '' ? {} : (JSON.parse(text) as object))
      return
    }
    if (url.searchParams.has('watch')) {
      response.writeHead(200, { 'content-type': 'application/json' })
      response.flushHeaders()
      this.#unwatched.delete(url.pathname)
      if (this.#unwatched.size === 0) this.#watched.resolve()
      return
    }
    const list = this.#lists.get(url.pathname)
    const isOne = /\/(secrets|configmaps|leases)\/[^/]+$/.test(url.pathname)
    if (isOne) {
      answer(404, { kind: 'Status', code: 404, reason: 'NotFound' })
      return
    }
    const from = Number(url.searchParams.get('continue') ?? 0)
    const to = from + Number(url.searchParams.get('limit') ?? Infinity)
    const items = (list ?? []).slice(from, to)
    const rest = to < (list?.length ?? 0) ? { continue: String(to) } : {}
    answer(200, { metadata: { resourceVersion: RESOURCE_VERSION, ...rest }, items })
  }
}

/** Asks the inspector of a process. */
class Inspector {
  readonly #socket: WebSocket
  readonly #waiting = new Map<number, (result: unknown) => void>()
  #last = 0

  private constructor(socket: WebSocket) {
    this.#socket = socket
    socket.addEventListener('message', ({ data }) => {
      const { id, result } = JSON.parse(String(data)) as { id?: number; result?: unknown }
      if (id !== undefined) this.#waiting.get(id)?.(result)
    })
  }

  static async open(url: string): Promise<Inspector> {
    const socket = new WebSocket(url)
    await once(socket, 'open')
    return new Inspector(socket)
  }

  async memory(): Promise<Memory> {
    for (let round = 0; round < COLLECTIONS; round += 1)
      await this.#call('HeapProfiler.collectGarbage', {})
    const answer = await this.#call('Runtime.evaluate', {
      expression: 'process.memoryUsage()',
      returnByValue: true,
    })
    return (answer as { result: { value: Memory } }).result.value
  }

  close(): void {
    this.#socket.close()
  }

  #call(method: string, params: object): Promise<unknown> {
    this.#last += 1
    const { promise, resolve } = Promise.withResolvers<unknown>()
    this.#waiting.set(this.#last, resolve)
    this.#socket.send(JSON.stringify({ id: this.#last, method, params }))
    return promise
  }
}

/** The memory of a controller that has taken in a cluster of so many pods. */
async function memoryOf(tree: string, pods: number, policies = 0): Promise<Memory> {
  const cluster = new Cluster(pods, policies)
  const port = await cluster.listen()
  const directory = mkdtempSync(join(tmpdir(), 'ambit-controller-heap-'))
  const kubeconfig = join(directory, 'kubeconfig')
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      'current-context': 'c',
      contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
      clusters: [{ name: 'c', cluster: { server: `http://127.0.0.1:${port}` } }],
      users: [{ name: 'u', user: {} }],
    }),
  )
  const controller = spawn(
    process.execPath,
    [
      '--inspect=127.0.0.1:0',
      join(tree, 'cli/main.ts'),
      ...['controller', '--kubeconfig', kubeconfig, '--listen', '127.0.0.1:0'],
      ...[
        '--health-address',
        '127.0.0.1:0',
        '--admin-address',
        '127.0.0.1:0',
        '--log-level',
        'info',
      ],
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  )
  let output = ''
  const inspected = Promise.withResolvers<string>()
  const started = Promise.withResolvers<void>()
  for (const stream of [controller.stdout, controller.stderr])
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString()
      const url = /ws:\/\/\S+/.exec(output)?.[0]
      if (url !== undefined) inspected.resolve(url)
      if (output.includes('controller started')) started.resolve()
    })
  const ended = once(controller, 'exit').then(() => {
    throw new Error(`the controller ended:\n${output}`)
  })
  try {
    const deadline = delay(READY_DEADLINE_MS, undefined, { ref: false }).then(() => {
      throw new Error(`the controller was not ready in time:\n${output}`)
    })
    const inspector = await Inspector.open(await Promise.race([inspected.promise, ended, deadline]))
    await Promise.race([Promise.all([started.promise, cluster.watched]), ended, deadline])
    await delay(SETTLE_MS)
    let memory = await inspector.memory()
    // Until two looks agree: the first lists may still be on their way.
    for (let before = Number.NaN; Math.abs(memory.heapUsed - before) > 20_000; ) {
      before = memory.heapUsed
      await delay(SETTLE_MS)
      memory = await inspector.memory()
    }
    inspector.close()
    return memory
  } finally {
    // Its end is wanted now.
    ended.catch(() => undefined)
    controller.kill('SIGKILL')
    cluster.close()
    rmSync(directory, { recursive: true })
  }
}

const pods = Number(values.pods)
const sample = JSON.stringify(pod(1)).length
const empty = await memoryOf(values.tree, 0)
const full = await memoryOf(values.tree, pods)
const perPod = (of: (memory: Memory) => number): number => Math.round((of(full) - of(empty)) / pods)
console.log(
  JSON.stringify({
    tree: values.tree,
    pods,
    podJsonBytes: sample,
    emptyHeapMb: Number((empty.heapUsed / 1e6).toFixed(1)),
    fullHeapMb: Number((full.heapUsed / 1e6).toFixed(1)),
    heapBytesPerPod: perPod(({ heapUsed }) => heapUsed),
    outsideHeapBytesPerPod: perPod(({ external }) => external),
  }),
)
const policies = Number(values.policies)
if (policies > 0) {
  const ruled = await memoryOf(values.tree, pods, policies)
  const each = Math.round((ruled.heapUsed - full.heapUsed) / policies)
  console.log(`a policy of ten rules: ${each} bytes of heap, with ${policies} of them`)
}
