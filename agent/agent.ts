// SPDX-License-Identifier: Apache-2.0
// Puts the agent together. The order of the start is what keeps a node's pods safe: capture, then the data plane, then
// the pods of an earlier agent, then CNI and the informers, and the control plane last, which nothing waits for.

import path from 'node:path'
import { AuditJournal } from '../mesh/audit/journal.ts'
import { AmbitError, ERROR_CATALOGUE, errorMessage } from '../mesh/errors.ts'
import { heldLimitOf } from '../mesh/hbone/limits.ts'
import { CaClient } from '../mesh/identity/ca-client.ts'
import { CertificateManager } from '../mesh/identity/certificate-manager.ts'
import { createKubeApi, type KubeApi, loadKubeConfig } from '../mesh/kube/index.ts'
import { MeshState } from '../mesh/model/mesh-state.ts'
import { err, ok, type Result } from '../mesh/result.ts'
import { releaseAll } from '../mesh/program/release.ts'
import type { Running } from '../mesh/program/run.ts'
import { VERSION } from '../mesh/program/version.ts'
import { type Logger, printLine } from '../mesh/telemetry/log.ts'
import type { LogLevels } from '../mesh/telemetry/log-levels.ts'
import { descriptorLimit } from '../mesh/program/descriptor-limit.ts'
import { AgentMetrics } from './admin/metrics.ts'
import { startServers } from './admin/start-servers.ts'
import { Readiness } from '../mesh/program/readiness.ts'
import { DenialEvents } from './audit/denial-events.ts'
import { recordConnections } from './audit/node-audit.ts'
import { recordUnserved } from './audit/enrolment-audit.ts'
import { openCapture } from './capture/index.ts'
import { ClosedPods } from './closed-pods.ts'
import type { AgentConfig } from './config.ts'
import { DiscoveryHealth } from './discovery-health.ts'
import { netnsProver, type NodeEnrolment, PodEvents, startEnrolment } from './enrolment/index.ts'
import { MeshRoots } from './mesh-roots.ts'
import { findNodeCgroups } from './node/node-cgroups.ts'
import { createPodServer } from './pod-server.ts'
import { POLICIES_DIRECTORY, PolicyStore } from './policy-store/policy-store.ts'
import { placeLimits } from './proxy/place-limits.ts'
import type { PlaceLimits } from './proxy/places.ts'
import { WorkerPool } from './proxy/worker/worker-pool.ts'
import { OwnDaemonSet } from './own-daemon-set.ts'
import { startCni, type StartedCni } from './start-cni.ts'
import { startDiscovery } from './start-discovery.ts'
import { RevocationFiles } from './revocation-files.ts'
import { type Ending, type Starting, unwrap } from './starting.ts'

export interface AgentOptions {
  readonly config: AgentConfig
  readonly log: Logger
  readonly levels: LogLevels
  /** Called when the admin API asks the agent to end. */
  readonly quit: () => void
}

/** Starts the agent; a failure undoes what was started. Node itself has raised RLIMIT_NOFILE to the hard limit. */
export async function startAgent(options: AgentOptions): Promise<Result<Running, AmbitError>> {
  const { config, log, levels } = options
  const started = new AsyncDisposableStack()
  const audit = new AuditJournal({ write: printLine })
  started.defer(() => audit.close())
  const ending: Ending = { unpin: false }
  try {
    const readiness = new Readiness(['capture', 'CNI socket', "this node's pods", 'xDS'])
    await start({ config, log, levels, audit, readiness, started, ending }, options.quit)
    ending.unpin = config.unpinOnExit
    return ok({ stop: () => releaseAll(started, log) })
  } catch (thrown) {
    await releaseAll(started, log)
    if (thrown instanceof AmbitError) return err(thrown)
    throw thrown
  }
}

async function start(starting: Starting, quit: () => void): Promise<void> {
  const { config, log, levels, audit, readiness, started, ending } = starting
  const node = findNodeCgroups(config, log)
  const capture = unwrap(
    await openCapture({
      cgroupPath: node.cgroup,
      bpffsDir: config.bpffs,
      bpfObjectPath: config.bpfObject,
      kubeletCgroups: node.kubeletCgroups,
      ...(node.findKubelet && { findKubelet: node.findKubelet }),
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
  const authority = new CaClient({
    address: config.caAddress,
    roots: () => roots.read(),
    tokenFile: config.tokenFile,
    clusterId: config.clusterId,
  })
  started.defer(() => authority.close())
  const certificates = new CertificateManager({
    authority,
    log: log.child({ part: 'identity' }),
    ttlSeconds: config.certificateTtlSeconds,
  })
  started.defer(() => certificates.close())

  const mesh = new MeshState({ network: config.network, rootNamespace: config.rootNamespace })
  const enrolment: { node?: NodeEnrolment } = {}
  const policies: { closed?: ClosedPods } = {}
  const serving: { pool: WorkerPool | undefined } = { pool: undefined }
  // Before any pod is served: none is ever without its policies.
  const held = await PolicyStore.open({
    directory: path.join(config.stateDir, POLICIES_DIRECTORY),
    nodeName: config.nodeName,
    mesh,
    // Before the pool serves any and once it ends, nothing is known to be gone: the next agent serves them again.
    isServed: (uid) => serving.pool?.pods().some(({ workloadUid }) => workloadUid === uid) ?? true,
    mayWrite: async () => (await enrolment.node?.isInCharge()) ?? false,
    log: log.child({ part: 'policy' }),
  })
  started.defer(() => held.close())
  const metrics = new AgentMetrics({
    version: VERSION,
    activePods: () => enrolment.node?.enrolledPods().length ?? 0,
    captureEvents: () => capture.counters(),
    podsWithMissingPolicies: () => policies.closed?.size ?? 0,
  })
  const denials: { events?: DenialEvents } = {}
  const pool = new WorkerPool({
    count: config.workers,
    workerUrl: new URL('./proxy/worker/data-plane-worker.ts', import.meta.url),
    start: {
      handles: capture.dataPlaneHandles,
      network: config.network,
      logLevels: levels.spec,
      sameNode: config.sameNode,
      sameNodeSecurityLabel: config.sameNodeSecurityLabel,
      missingPolicies: config.missingPolicies,
      rootNamespace: config.rootNamespace,
      trust: { trustDomain: config.trustDomain, aliases: config.trustDomainAliases },
      placeLimits: sharedPlaces(config, log),
      heldLimitBytes: heldLimitOf(config.workers),
    },
    mesh,
    certificates,
    log: log.child({ part: 'workers' }),
    onTraffic: (deltas) => metrics.add(deltas),
    onEjection: (change) => metrics.endpoint(change),
    onAudit: (pod, events) => recordConnections(audit, denials.events, pod, events),
  })
  serving.pool = pool
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
  const standings = () => enrolment.node?.standings() ?? []
  await startServers(starting, {
    mesh,
    pool,
    certificates,
    metrics,
    discovery,
    standings,
    quit,
  })

  const api = createKubeApi(unwrap(await loadKubeConfig(config)))
  policies.closed = tellOfClosedPods(starting, api, mesh, pool)
  denials.events = tellOfDenials(starting, api)
  const { trustDomain, clusterId, drainDeadlineMs, podName, podNamespace } = config
  const cni: { started?: StartedCni; isMeshSynced: boolean } = { isMeshSynced: false }
  const running = await startEnrolment({
    api,
    nodeName: config.nodeName,
    capture,
    server: createPodServer({ pool, trustDomain, clusterId, drainDeadlineMs, log }),
    stateDirectory: config.stateDir,
    logger: log,
    failOpen: config.failOpen,
    // A peer that has not heard from the control plane for so long has no certificate to call anybody with.
    peersForgetMs: config.certificateTtlSeconds * 1000,
    nodeCgroup: node.cgroup,
    prove: netnsProver(capture.thread, config.procRoot),
    procRoot: config.procRoot,
    onMembership: () => cni.started?.membershipChanged(),
    onRefused: (pod, error) => recordUnserved(audit, pod, error),
  })
  enrolment.node = running
  started.defer(() => running.close({ withdraw: ending.unpin }))
  running.synced.then(
    () => readiness.done("this node's pods"),
    (thrown: unknown) => log.debug({ error: errorMessage(thrown) }, 'closed before the first list'),
  )

  cni.started = await startCni(starting, {
    enrolment: running,
    mesh,
    isMeshSynced: () => cni.isMeshSynced,
  })
  const onSynced = (): void => {
    cni.isMeshSynced = true
    cni.started?.membershipChanged()
  }
  startDiscovery(starting, {
    api,
    roots,
    mesh,
    pool,
    certificates,
    health: discovery,
    outdated: () => held.outdated(),
    onSynced,
  })
  const owner = new OwnDaemonSet({
    api,
    podNamespace,
    podName,
    logger: log.child({ part: 'owner' }),
  })
  started.defer(async () => {
    if (!ending.unpin && (await owner.isGone())) {
      log.warn('the DaemonSet of the agents is gone: the mesh leaves this node')
      ending.unpin = true
    }
    await owner.close()
    // What another agent has taken over is not this one's to take out of the mesh.
    ending.unpin &&= await running.isInCharge()
  })
  log.info({ node: config.nodeName, workers: config.workers }, 'the agent runs')
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

function tellOfClosedPods(
  { config, log, started }: Starting,
  api: KubeApi,
  mesh: MeshState,
  pool: WorkerPool,
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
