// SPDX-License-Identifier: Apache-2.0
// Two nodes' data planes over one real capture, in a process of its own: capture opens the listeners, each pool of
// workers serves its own pods, and a pod of the other pool is a pod of another node.

import { type CapturePod, type NodeCapture, openCapture } from '../../../agent/capture/index.ts'
import type { CallProbe } from '../../../agent/proxy/call-probe.ts'
import { WorkerPool } from '../../../agent/proxy/worker/worker-pool.ts'
import { EVERY_LINE } from '../../../mesh/telemetry/access-spec.ts'
import { heldLimitOf } from '../../../mesh/hbone/limits.ts'
import { spiffeId } from '../../../mesh/identity/spiffe.ts'
import type { CertificateSource, WorkloadCertificate } from '../../../mesh/identity/types.ts'
import { MeshState } from '../../../mesh/model/mesh-state.ts'
import type {
  IpAddress,
  MeshChange,
  PodUid,
  Service,
  SpiffeId,
  WorkloadUid,
} from '../../../mesh/model/types.ts'
import {
  resourceOf,
  startTelemetryExport,
  type TelemetryExport,
} from '../../../mesh/program/telemetry-export.ts'
import { ok } from '../../../mesh/result.ts'
import { createLogger, type LogLevel } from '../../../mesh/telemetry/log.ts'
import type { OpenRequest } from '../../capture/support/agent-process.ts'
import { serveRpc } from '../../capture/support/rpc.ts'
import { makeCertificate, makeRoot } from '../../hbone/certs.ts'
import { startCollector, type TestCollector } from '../../telemetry/collector.ts'
import { inService, testPod, testService, workloadOf } from '../../proxy/loopback-world.ts'

export type Node = 'near' | 'far'

export interface EnrolRequest {
  readonly node: Node
  readonly pod: CapturePod
}

export interface ProbeRequest extends CallProbe {
  readonly node: Node
  readonly uid: string
}

export interface ServiceSpec {
  readonly name: string
  readonly vip: string
  readonly targetPort: number
  /** Names of the pods behind it. */
  readonly pods: readonly string[]
}

const log = createLogger('test', 'info')
const captured = new Map<string, CapturePod>()
const meshes = { near: new MeshState(), far: new MeshState() }
const pools = new Map<Node, WorkerPool>()
let capture: NodeCapture | undefined
/** Both pools export their access lines. */
let collector: TestCollector | undefined
let exported: TelemetryExport | undefined

function pool(node: Node): WorkerPool {
  const found = pools.get(node)
  if (found === undefined) throw new Error('not open')
  return found
}

/** As enrolment does: captured, then served, and both again when the worker is no more. */
async function enrol(node: Node, pod: CapturePod): Promise<void> {
  if (capture === undefined) throw new Error('not open')
  captured.set(pod.uid, pod)
  const enrolment = await capture.enrol(pod)
  if (!enrolment.ok) throw enrolment.error
  await pool(node).addPod(facts(pod), enrolment.value, () => {
    if (captured.has(pod.uid)) void enrol(node, pod)
  })
}

/** Certificates that come as soon as they are wanted, as those of a CA near by. */
function madeHere(make: (identity: SpiffeId) => Promise<WorkloadCertificate>): CertificateSource {
  const made = new Map<SpiffeId, WorkloadCertificate>()
  const listeners = new Set<(certificate: WorkloadCertificate) => void>()
  const get = async (identity: SpiffeId): Promise<WorkloadCertificate> => {
    const certificate = made.get(identity) ?? (await make(identity))
    made.set(identity, certificate)
    return certificate
  }
  return {
    retain: (identity) =>
      void get(identity).then((certificate) => {
        for (const listener of listeners) listener(certificate)
      }),
    release: () => undefined,
    onCertificate: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    current: (identity) => made.get(identity),
    get: async (identity) => ok(await get(identity)),
  }
}

serveRpc({
  async open(request: OpenRequest & { readonly bpfObjectPath: string }) {
    const opened = await openCapture({ kubeletCgroups: [], ...request, logger: log })
    if (!opened.ok) throw opened.error
    capture = opened.value
    // It ends with the process.
    collector = await startCollector({ teardown: () => undefined })
    exported = await startTelemetryExport(
      { otlpEndpoint: collector.endpoint, otlpIntervalMs: 60_000 },
      resourceOf('ambit-agent', { namespace: 'system', pod: 'agent', node: 'near', cluster: 'c' }),
      { families: () => Promise.resolve([]) },
      log,
    )
    const root = await makeRoot()
    for (const node of ['near', 'far'] as const) {
      pools.set(
        node,
        new WorkerPool({
          count: 1,
          workerUrl: new URL('../../../agent/proxy/worker/data-plane-worker.ts', import.meta.url),
          start: {
            handles: capture.dataPlaneHandles,
            network: '',
            logLevels: { level: 'info', parts: {} },
            logFormat: 'json',
            accessSpec: EVERY_LINE,
            ...(exported && { exportAs: exported.resource }),
            sameNode: 'direct',
            sameNodeSecurityLabel: 'node_local',
            missingPolicies: 'refuse',
            rootNamespace: 'istio-system',
            placeLimits: { descriptors: 10_000, perPod: 1000, handshakes: 1_000 },
            heldLimitBytes: heldLimitOf(1),
          },
          mesh: meshes[node],
          lastSaid: () => undefined,
          certificates: madeHere((identity) => makeCertificate(root, identity)),
          log,
          onTraffic: () => undefined,
          onAccessLines: (request, leftOut) => exported?.takeLogs(request, leftOut),
          onEjection: () => undefined,
          onAudit: () => undefined,
        }),
      )
      await pool(node).ready()
      meshes[node].apply([{ kind: 'policyKnowledge', is: 'current' }])
      pool(node).meshSynced()
    }
  },
  enrol: ({ node, pod }: EnrolRequest) => enrol(node, pod),
  async withdraw({ node, uid }: { readonly node: Node; readonly uid: string }) {
    await capture?.withdraw(uid)
    captured.delete(uid)
    await pool(node).removePod(uid, 0)
  },
  mesh(services: readonly ServiceSpec[]) {
    const changes: MeshChange[] = []
    const byPod = new Map<string, Service>()
    for (const { name, vip, pods, targetPort } of services) {
      const service = testService(name, vip as IpAddress, {
        ports: [{ servicePort: 80, targetPort, appProtocol: 'unknown' }],
      })
      changes.push({ kind: 'service', service })
      for (const pod of pods) byPod.set(pod, service)
    }
    for (const pod of captured.values()) {
      const service = byPod.get(pod.name)
      changes.push({
        kind: 'workload',
        workload: workloadOf(
          { ...facts(pod), netnsFd: -1, seat: 0 },
          service === undefined ? {} : inService(service, service.ports[0]?.targetPort ?? 0),
        ),
      })
    }
    for (const mesh of Object.values(meshes)) mesh.apply(changes)
  },
  /** A level that the logger does not know is thrown at the worker's top: it dies of it. Its successor starts with a sound one. */
  killWorkers(node: Node) {
    pool(node).setLogLevels({ level: 'no-such-level' as LogLevel, parts: {} })
    pool(node).setLogLevels({ level: 'info', parts: {} })
  },
  /** Calls as the pod's app would, without the app. */
  probeCall({ node, uid, ...probe }: ProbeRequest) {
    return pool(node).probeCall(uid as PodUid, probe)
  },
  async connections(node: Node) {
    return [...(await pool(node).connections()).values()].flat().length
  },
  /** What the collector has got. */
  exported: () => collector?.got.map(({ message }) => message) ?? [],
  async close() {
    await Promise.all([...pools.values()].map((each) => each.close(0)))
    await exported?.close()
    await capture?.close({ unpin: true })
  },
})

function facts(pod: CapturePod): Parameters<WorkerPool['addPod']>[0] {
  const { name, namespace } = pod
  return {
    ...testPod(name),
    uid: pod.uid as PodUid,
    serviceAccount: name,
    identity: spiffeId({ trustDomain: 'cluster.local', namespace, serviceAccount: name }),
    workloadUid: `Kubernetes//Pod/${namespace}/${name}` as WorkloadUid,
    addresses: pod.addresses,
  }
}
