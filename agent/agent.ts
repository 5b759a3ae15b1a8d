// SPDX-License-Identifier: Apache-2.0
// Puts the agent together. The order of the start is what keeps a node's pods safe: capture, then the data plane, then
// the pods of an earlier agent, then CNI and the informers, and the control plane last, which nothing waits for.

import { sweepSeries } from '../mesh/telemetry/metrics/sweep-series.ts'
import path from 'node:path'
import { AuditJournal } from '../mesh/audit/journal.ts'
import { AmbitError, ERROR_CATALOGUE } from '../mesh/errors.ts'
import { heldLimitOf } from '../mesh/hbone/limits.ts'
import { createKubeApi, type KubeApi, loadKubeConfig } from '../mesh/kube/index.ts'
import { MeshState } from '../mesh/model/mesh-state.ts'
import { err, ok, type Result } from '../mesh/result.ts'
import { releaseAll } from '../mesh/program/release.ts'
import type { Running } from '../mesh/program/run.ts'
import { exportAudit } from '../mesh/program/audit-export.ts'
import {
  resourceOf,
  startTelemetryExport,
  type TelemetryExport,
} from '../mesh/program/telemetry-export.ts'
import { VERSION } from '../mesh/program/version.ts'
import { type Logger, printLine } from '../mesh/telemetry/log.ts'
import type { LogLevels } from '../mesh/telemetry/log-levels.ts'
import { descriptorLimit } from '../mesh/program/descriptor-limit.ts'
import { countPods } from './admin/count-pods.ts'
import { livingParties } from './admin/living-parties.ts'
import { AgentMetrics } from './admin/metrics.ts'
import { AgentServers } from './admin/start-servers.ts'
import { Readiness } from '../mesh/program/readiness.ts'
import { certificateRefusals } from './audit/certificate-refusals.ts'
import { DenialEvents } from './audit/denial-events.ts'
import { recordConnections } from './audit/node-audit.ts'
import { recordUnserved } from './audit/enrolment-audit.ts'
import { ServiceRoute } from '../mesh/grpc/service-route.ts'
import { openCapture } from './capture/index.ts'
import { ClosedPods } from './closed-pods.ts'
import type { AgentConfig } from './config.ts'
import { DiscoveryHealth } from '../mesh/xds/discovery-health.ts'
import { eligibilityOf, netnsProver, PodEvents } from './enrolment/index.ts'
import { MeshRoots } from './mesh-roots.ts'
import { findNodeCgroups } from './node/node-cgroups.ts'
import { meetPredecessor, type Predecessor } from './handover/index.ts'
import { nodeCertificates } from './node-certificates.ts'
import { NodeDuties } from './node-duties.ts'
import { createPodServer } from './pod-server.ts'
import { POLICIES_DIRECTORY, PolicyStore } from './policy-store/policy-store.ts'
import { placeLimits } from './proxy/place-limits.ts'
import type { PlaceLimits } from './proxy/places.ts'
import { WorkerPool } from './proxy/worker/worker-pool.ts'
import { OwnDaemonSet } from './own-daemon-set.ts'
import { removeTraces } from './remove-traces.ts'
import { startDiscovery } from './start-discovery.ts'
import { RevocationFiles } from '../mesh/identity/revocation-files.ts'
import { type Ending, type Starting, unwrap } from './starting.ts'
import { ServingCondition } from './serving-condition.ts'
import { prepare, type Prepared, takeCharge } from './take-over.ts'

/** Beside the CNI plugin's, in a directory that is root's alone. */
const HANDOVER_SOCKET = 'agent.sock'

export interface AgentOptions {
  readonly config: AgentConfig
  readonly log: Logger
  readonly levels: LogLevels
  /** Called when the admin API asks the agent to end. */
  readonly quit: () => void
  /** Gives up a start that waits for a predecessor to be succeeded. */
  readonly signal: AbortSignal
}

/** Starts the agent; a failure undoes what was started. Node itself has raised RLIMIT_NOFILE to the hard limit. */
export async function startAgent(options: AgentOptions): Promise<Result<Running, AmbitError>> {
  const { config, log, levels, quit, signal } = options
  const started = new AsyncDisposableStack()
  const audit = new AuditJournal({ write: printLine })
  started.defer(() => audit.close())
  const ending: Ending = { unpin: false }
  try {
    const readiness = new Readiness([
      'capture',
      'CNI socket',
      "this node's pods",
      'xDS',
      'hand-over',
    ])
    await start({ config, log, levels, audit, readiness, started, ending }, quit, signal)
    ending.unpin = config.unpinOnExit
    return ok({ stop: () => releaseAll(started, log) })
  } catch (thrown) {
    await releaseAll(started, log)
    if (thrown instanceof AmbitError) return err(thrown)
    throw thrown
  }
}

async function start(starting: Starting, quit: () => void, signal: AbortSignal): Promise<void> {
  const { config, log, levels, audit, readiness, started, ending } = starting
  const socketPath = path.join(path.dirname(config.cniSocket), HANDOVER_SOCKET)
  started.defer(() => (ending.unpin ? removeTraces(config, log) : undefined))
  // First of all: one of an earlier version frees its ports by it.
  const { trustDomain } = config
  const predecessor = await meetPredecessor({ socketPath, version: VERSION, trustDomain, log })
  started.defer(() => predecessor?.leave())
  const node = findNodeCgroups(config, log)
  const capture = unwrap(
    await openCapture({
      cgroupPath: node.cgroup,
      bpffsDir: config.bpffs,
      bpfObjectPath: config.bpfObject,
      kubeletCgroups: node.kubeletCgroups,
      ...(node.findKubelet && { findKubelet: node.findKubelet }),
      supersedesLater: predecessor !== undefined,
      logger: log.child({ part: 'capture' }),
    }),
  )
  started.defer(() => capture.close(ending))
  readiness.done('capture')

  const roots = new MeshRoots({
    file: config.caRootFile,
    namespace: config.podNamespace,
    log: log.child({ part: 'identity' }),
  })
  const served: { before: Predecessor | undefined; pool?: WorkerPool } = { before: predecessor }
  const route = new ServiceRoute({
    namespace: config.podNamespace,
    environment: process.env,
    logger: log.child({ part: 'control plane' }),
  })
  const certificates = nodeCertificates(starting, {
    route,
    roots: () => roots.read(),
    pods: () => [...(served.before?.pods ?? []), ...(served.pool?.pods() ?? [])],
  })

  const mesh = new MeshState({ network: config.network, rootNamespace: config.rootNamespace })
  const enrolment: { duties?: NodeDuties; owner?: OwnDaemonSet } = {}
  const policies: { closed?: ClosedPods } = {}
  const serving: { pool: WorkerPool | undefined } = { pool: undefined }
  // Before any pod is served: none is ever without its policies.
  const held = await PolicyStore.open({
    directory: path.join(config.stateDir, POLICIES_DIRECTORY),
    nodeName: config.nodeName,
    mesh,
    // Before this node's pods are known and once the pool ends, nothing is known to be gone: the next agent serves them again.
    isServed: (uid) => serving.pool?.pods().some(({ workloadUid }) => workloadUid === uid) ?? true,
    mayWrite: async () => (await enrolment.duties?.isInCharge()) ?? false,
    log: log.child({ part: 'policy' }),
  })
  started.defer(() => held.close())
  const exports: { started?: TelemetryExport | undefined } = {}
  const metrics = new AgentMetrics({
    version: VERSION,
    pods: () => countPods(enrolment.duties?.standings() ?? []),
    meshSizes: () => ({ ...mesh.size, policies: mesh.policies.size }),
    captureEvents: () => capture.counters(),
    podsWithMissingPolicies: () => policies.closed?.size ?? 0,
    others: () => exports.started?.families() ?? [],
  })
  // Before the pool, to end after it: the lines of the last connections are exported, too.
  exports.started = await exportTelemetry(starting, metrics)
  const denials: { events?: DenialEvents } = {}
  const pool = new WorkerPool({
    count: config.workers,
    workerUrl: new URL('./proxy/worker/data-plane-worker.ts', import.meta.url),
    start: {
      handles: capture.dataPlaneHandles,
      network: config.network,
      logLevels: levels.spec,
      logFormat: config.logFormat,
      accessSpec: { filter: config.accessLogFilter, sample: config.accessLogSample },
      ...(exports.started && { exportAs: exports.started.resource }),
      sameNode: config.sameNode,
      sameNodeSecurityLabel: config.sameNodeSecurityLabel,
      missingPolicies: config.missingPolicies,
      rootNamespace: config.rootNamespace,
      trust: { trustDomain: config.trustDomain, aliases: config.trustDomainAliases },
      placeLimits: sharedPlaces(config, log),
      heldLimitBytes: heldLimitOf(config.workers),
    },
    mesh,
    lastSaid: (uid) => held.lastWords.of(uid),
    certificates,
    log: log.child({ part: 'workers' }),
    onTraffic: (deltas, worker) => metrics.add(deltas, worker),
    onAccessLines: (request, leftOut) => exports.started?.takeLogs(request, leftOut),
    onWorkerLost: (worker) => metrics.workerLost(worker),
    onEjection: (change) => metrics.endpoint(change),
    onAudit: (pod, events) => recordConnections(audit, denials.events, pod, events),
  })
  served.pool = pool
  started.use(sweepSeries(metrics.traffic, () => livingParties(mesh, pool.pods())))
  started.defer(async () => {
    serving.pool = undefined
    const { cut } = await pool.close(config.drainDeadlineMs)
    if (cut > 0)
      log.warn(
        { cut, drainDeadlineMs: config.drainDeadlineMs },
        'connections were cut at the drain deadline',
      )
  })
  const revocations = new RevocationFiles({
    files: config.crlFiles,
    log: log.child({ part: 'identity' }),
    onLists: (lists) => pool.setRevocations(lists),
  })
  started.defer(() => revocations.close())
  await revocations.start()
  await pool.ready()

  const discovery = new DiscoveryHealth(config.xdsAddress)
  const servers = new AgentServers(starting, {
    mesh,
    pool,
    certificates,
    metrics,
    discovery,
    standings: () => enrolment.duties?.standings() ?? [],
    successor: () => enrolment.owner?.successorAmong(enrolment.duties?.pods() ?? []),
    quit,
  })
  started.defer(() => servers.close())
  // Probes of this agent come to the same ports: while there is one that serves the node, it answers them.
  if (predecessor?.keepsPorts !== true) await servers.open()

  const api = createKubeApi(unwrap(await loadKubeConfig(config)))
  policies.closed = tellOfClosedPods(starting, api, { mesh, pool, held })
  denials.events = tellOfDenials(starting, api)
  certificates.onRefused(certificateRefusals({ pods: () => pool.pods(), events: denials.events }))
  const { clusterId, drainDeadlineMs, podName, podNamespace } = config
  const duties = new NodeDuties({
    starting,
    mesh,
    enrolment: {
      api,
      nodeName: config.nodeName,
      capture,
      server: createPodServer({
        pool,
        trustDomain,
        clusterId,
        drainDeadlineMs,
        log,
        onChange: (change) => metrics.proxy(change),
      }),
      stateDirectory: config.stateDir,
      logger: log,
      failOpen: config.failOpen,
      eligibility: eligibilityOf(config),
      // A peer that has not heard from the control plane for so long has no certificate to call anybody with.
      peersForgetMs: config.certificateTtlSeconds * 1000,
      nodeCgroup: node.cgroup,
      prove: netnsProver(capture.thread, config.procRoot),
      procRoot: config.procRoot,
      onRefused: (pod, error) => recordUnserved(audit, pod, error),
    },
    onBegun: () => held.begin(),
    onSynced: () => {
      serving.pool = pool
      readiness.done("this node's pods")
    },
  })
  enrolment.duties = duties
  const meshSynced = Promise.withResolvers<void>()
  const discover = (): void =>
    startDiscovery(starting, {
      api,
      roots,
      route,
      mesh,
      pool,
      certificates,
      health: discovery,
      metrics,
      outdated: () => held.outdated(),
      onSynced: () => {
        duties.meshSynced()
        meshSynced.resolve()
      },
    })
  let prepared: Prepared | undefined
  if (predecessor !== undefined) {
    discover()
    const parts = { certificates, meshSynced: meshSynced.promise }
    prepared = await prepare(starting, predecessor, parts, signal)
  }
  // Where the start fails from here on, the pods are not the predecessor's any more: before they are let go of here it is to have them.
  started.defer(() => predecessor?.takesBack())
  started.defer(() => duties.giveUp())
  if (predecessor !== undefined) unwrap(capture.supersede())
  await duties.begin()
  await takeCharge(starting, { capture, pool, certificates, servers, duties, socketPath, quit })
  await predecessor?.taken()
  if (predecessor?.keepsPorts === true) await servers.open()
  prepared?.release()
  served.before = undefined
  // Whoever was here before is ended as soon as this agent is ready, and has let go by then.
  readiness.done('hand-over')
  started.use(
    new ServingCondition({ api, podNamespace, podName, log: log.child({ part: 'handover' }) }),
  )
  // Its pods are served from what is known of them; nothing waits for the control plane.
  if (predecessor === undefined) discover()
  const owner = new OwnDaemonSet({
    api,
    podNamespace,
    podName,
    logger: log.child({ part: 'owner' }),
  })
  enrolment.owner = owner
  started.defer(async () => {
    if (!ending.unpin && (await owner.isGone())) {
      log.warn('the DaemonSet of the agents is gone: the mesh leaves this node')
      ending.unpin = true
    }
    await owner.close()
    // What another agent has taken over is not this one's to take out of the mesh, nor to shut.
    const isInCharge = await duties.isInCharge()
    ending.unpin &&= isInCharge
    if (isInCharge && !ending.unpin) capture.shut()
  })
  log.info({ node: config.nodeName, workers: config.workers }, 'the agent runs')
}

/** Undefined where there is no collector. Throws AMB_OTLP. */
async function exportTelemetry(
  { config, log, audit, started }: Starting,
  metrics: AgentMetrics,
): Promise<TelemetryExport | undefined> {
  const { podNamespace, podName, nodeName, clusterId } = config
  const whose = { namespace: podNamespace, pod: podName, node: nodeName, cluster: clusterId }
  const exported = await startTelemetryExport(
    config,
    resourceOf('ambit-agent', whose),
    metrics,
    log.child({ part: 'telemetry' }),
  )
  if (exported === undefined) return undefined
  started.defer(() => exported.close())
  started.defer(await exportAudit(audit, exported))
  return exported
}

function tellOfDenials({ config, log, started }: Starting, api: KubeApi): DenialEvents {
  const closing = new AbortController()
  started.defer(() => closing.abort())
  const { nodeName } = config
  return new DenialEvents({
    api,
    nodeName,
    log: log.child({ part: 'audit' }),
    signal: closing.signal,
  })
}

interface Judged {
  readonly mesh: MeshState
  readonly pool: WorkerPool
  readonly held: PolicyStore
}

function tellOfClosedPods(
  { config, log, started }: Starting,
  api: KubeApi,
  { mesh, pool, held }: Judged,
): ClosedPods {
  const closing = new AbortController()
  const events = new PodEvents({
    api,
    nodeName: config.nodeName,
    logger: log,
    signal: closing.signal,
  })
  const closed = new ClosedPods({
    mesh,
    lastSaid: (uid) => held.lastWords.of(uid),
    pods: () => pool.pods(),
    mode: config.missingPolicies,
    events,
    log: log.child({ part: 'policy' }),
  })
  started.defer(() => {
    closed.close()
    closing.abort()
  })
  return closed
}

/** Says so where the machine allows less than the operator. */
function sharedPlaces({ maxConnectionsPerPod }: AgentConfig, log: Logger): PlaceLimits {
  const openFiles = descriptorLimit()
  const limits = placeLimits(openFiles, maxConnectionsPerPod)
  if (limits.perPod < maxConnectionsPerPod)
    log.warn(
      { code: 'AMB_FEW_DESCRIPTORS', hint: ERROR_CATALOGUE.AMB_FEW_DESCRIPTORS },
      `A pod may have ${limits.perPod} connections, not ${maxConnectionsPerPod}: open files are limited to ${openFiles}`,
    )
  return limits
}
