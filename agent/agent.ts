// SPDX-License-Identifier: Apache-2.0
// Puts the agent together. The order of the start is what keeps a node's pods safe: capture, then the data plane, then
// the pods of an earlier agent, then CNI and the informers, and the control plane last, which nothing waits for.

import { setTimeout as delay } from 'node:timers/promises'
import { AmbitError, errorMessage } from '../mesh/errors.ts'
import { heldLimitOf } from '../mesh/hbone/limits.ts'
import { CaClient } from '../mesh/identity/ca-client.ts'
import { CertificateManager } from '../mesh/identity/certificate-manager.ts'
import { spiffeId } from '../mesh/identity/spiffe.ts'
import { createKubeApi, loadKubeConfig } from '../mesh/kube/index.ts'
import { MeshState } from '../mesh/model/mesh-state.ts'
import { podWorkloadUid } from '../mesh/model/names.ts'
import type { WorkloadUid } from '../mesh/model/types.ts'
import { err, ok, type Result } from '../mesh/result.ts'
import { releaseAll } from '../mesh/program/release.ts'
import type { Running } from '../mesh/program/run.ts'
import { VERSION } from '../mesh/program/version.ts'
import type { Logger } from '../mesh/telemetry/log.ts'
import { createAddressConsumer } from '../mesh/xds/address-consumer.ts'
import { XdsClient } from '../mesh/xds/client.ts'
import { configDump } from './admin/config-dump.ts'
import { listen } from '../mesh/program/listen.ts'
import { AgentMetrics } from './admin/metrics.ts'
import { Readiness } from '../mesh/program/readiness.ts'
import { createAdminServer, createMetricsServer, createReadinessServer } from './admin/servers.ts'
import { type CapturePod, type NodeCapture, openCapture } from './capture/index.ts'
import { installCni, startCniServer } from './cni/index.ts'
import type { AgentConfig } from './config.ts'
import { DEFAULT_ELIGIBILITY, type EnrolmentListener, startEnrolment } from './enrolment/index.ts'
import { WorkerPool } from './proxy/worker/worker-pool.ts'

export interface AgentOptions {
  readonly config: AgentConfig
  readonly log: Logger
  /** Called when the admin API asks the agent to end. */
  readonly quit: () => void
}

/** Whether the pods leave the mesh when the agent ends; known once it runs: an agent that failed to start takes no pod out. */
interface Ending {
  unpin: boolean
}

/** Starts the agent; a failure undoes what was started. Node itself has raised RLIMIT_NOFILE to the hard limit. */
export async function startAgent(options: AgentOptions): Promise<Result<Running, AmbitError>> {
  const { config, log } = options
  const started = new AsyncDisposableStack()
  const ending: Ending = { unpin: false }
  try {
    await start(options, started, ending)
    ending.unpin = config.unpinOnExit
    return ok({ stop: () => releaseAll(started, log) })
  } catch (thrown) {
    await releaseAll(started, log)
    if (thrown instanceof AmbitError) return err(thrown)
    throw thrown
  }
}

async function start(
  { config, log, quit }: AgentOptions,
  started: AsyncDisposableStack,
  ending: Ending,
): Promise<void> {
  const readiness = new Readiness(['capture', 'CNI socket', "this node's pods", 'xDS'])
  const capture = unwrap(
    await openCapture({
      cgroupPath: config.cgroup,
      bpffsDir: config.bpffs,
      bpfObjectPath: config.bpfObject,
      kubeletCgroups: config.kubeletCgroups,
      logger: log.child({ part: 'capture' }),
    }),
  )
  started.defer(() => capture.close(ending))
  readiness.done('capture')

  const authority = new CaClient({
    address: config.caAddress,
    rootFile: config.caRootFile,
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

  const mesh = new MeshState({ network: config.network })
  const captured = new Map<string, CapturePod>()
  const metrics = new AgentMetrics({
    version: VERSION,
    activePods: () => captured.size,
    captureEvents: () => capture.counters(),
  })
  const pool = new WorkerPool({
    count: config.workers,
    workerUrl: new URL('./proxy/worker/data-plane-worker.ts', import.meta.url),
    start: {
      handles: capture.dataPlaneHandles,
      network: config.network,
      logLevel: config.logLevel,
      sameNode: config.sameNode,
      maxConnectionsPerPod: config.maxConnectionsPerPod,
      heldLimitBytes: heldLimitOf(config.workers),
    },
    mesh,
    certificates,
    log: log.child({ part: 'workers' }),
    onTraffic: (deltas) => metrics.add(deltas),
    reEnrol: (uid) => reEnrol(capture, captured, uid),
  })
  started.defer(async () => {
    const { cut } = await pool.close(config.drainDeadlineMs)
    if (cut > 0)
      log.warn(
        { cut, drainDeadlineMs: config.drainDeadlineMs },
        'connections were cut at the drain deadline',
      )
  })
  await pool.ready()

  const admin = createAdminServer({
    configDump: () =>
      configDump({
        mesh,
        certificates: () => certificates.status(),
        pods: () => pool.pods(),
        connections: () => pool.connections(),
        version: VERSION,
        config: { ...config },
      }),
    logLevel: () => log.level,
    setLogLevel: (level) => {
      log.level = level
      pool.setLogLevel(level)
    },
    quit,
  })
  const ready = createReadinessServer(readiness, pool)
  for (const [app, where, name] of [
    [admin, config.adminAddress, '--admin-address'],
    [createMetricsServer(metrics), config.metricsAddress, '--metrics-address'],
    [ready, config.readinessAddress, '--readiness-address'],
  ] as const) {
    await listen(app, where, name)
    started.defer(() => app.close())
  }

  const access = await loadKubeConfig(config)
  const enrolment = await startEnrolment({
    api: createKubeApi(unwrap(access)),
    nodeName: config.nodeName,
    capture,
    listener: poolListener(pool, mesh, captured, config, log),
    stateDirectory: config.stateDir,
    logger: log,
    failOpen: config.failOpen,
    procRoot: config.procRoot,
  })
  started.defer(() => enrolment.close({ withdraw: ending.unpin }))
  enrolment.synced.then(
    () => readiness.done("this node's pods"),
    (thrown: unknown) => log.debug({ error: errorMessage(thrown) }, 'closed before the first list'),
  )

  const cni = unwrap(
    await startCniServer({
      socketPath: config.cniSocket,
      handlers: enrolment,
      logger: log.child({ part: 'cni' }),
    }),
  )
  started.defer(() => cni.close())
  readiness.done('CNI socket')
  await chainCni(config, log, started, ending)

  const xds = new XdsClient({
    address: config.xdsAddress,
    rootFile: config.caRootFile,
    tokenFile: config.tokenFile,
    node: {
      address: config.nodeAddress,
      podName: config.podName,
      namespace: config.podNamespace,
      nodeName: config.nodeName,
      clusterId: config.clusterId,
      clusterDomain: config.clusterDomain,
    },
    consumers: [createAddressConsumer((changes) => mesh.apply(changes))],
    logger: log.child({ part: 'xds' }),
    onSynced: () => {
      pool.meshSynced()
      readiness.done('xDS')
      log.info(mesh.size, 'the mesh state is complete')
    },
    onProblems: (typeUrl, problems) =>
      log.warn({ typeUrl, problems }, 'some discovery resources were refused'),
  })
  xds.start()
  started.defer(() => xds.stop())
  log.info({ node: config.nodeName, workers: config.workers }, 'the agent runs')
}

async function chainCni(
  config: AgentConfig,
  log: Logger,
  started: AsyncDisposableStack,
  ending: Ending,
): Promise<void> {
  const { cniBinDir, cniConfDir } = config
  if (cniBinDir === undefined || cniConfDir === undefined) {
    log.info('no --cni-bin-dir and --cni-conf-dir: the CNI plugin is not installed by this agent')
    return
  }
  const installation = unwrap(
    await installCni({
      binaryPath: config.cniBinary,
      binDirectory: cniBinDir,
      confDirectory: cniConfDir,
      config: {
        socket: config.cniSocket,
        excludeNamespaces: [...DEFAULT_ELIGIBILITY.excludeNamespaces],
      },
      logger: log.child({ part: 'cni' }),
    }),
  )
  started.defer(async () => {
    if (ending.unpin) unwrap(await installation.uninstall())
    else await installation.close()
  })
}

/** Connections that a pod made in the mesh go on this long after it left. */
const LEFT_BEHIND_DEADLINE_MS = 3_600_000
/** How long a pod that leaves the mesh waits to hear of it from the control plane. */
const LEAVING_DEADLINE_MS = 500
/** The control plane tells all agents at once; this much later than we the last of them may have applied it. */
const PEERS_BEHIND_MS = 150

/** Resolves when the peers of a workload have heard, as far as can be known here, that it speaks HBONE no more. */
async function peersKnowPlain(mesh: MeshState, uid: WorkloadUid): Promise<void> {
  const isPlain = (): boolean => mesh.workload(uid)?.tunnelProtocol !== 'hbone'
  if (!isPlain()) {
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const deadline = setTimeout(() => resolve(undefined), LEAVING_DEADLINE_MS)
    const unsubscribe = mesh.subscribe(() => {
      if (isPlain()) resolve(undefined)
    })
    await promise
    clearTimeout(deadline)
    unsubscribe()
  }
  await delay(PEERS_BEHIND_MS)
}

/** Joins enrolment to the data plane. */
function poolListener(
  pool: WorkerPool,
  mesh: MeshState,
  captured: Map<string, CapturePod>,
  config: AgentConfig,
  log: Logger,
): EnrolmentListener {
  const { trustDomain, clusterId, drainDeadlineMs } = config
  const logFailure = async (what: string, uid: string, work: Promise<unknown>): Promise<void> => {
    try {
      await work
    } catch (thrown) {
      log.error({ pod: uid, error: errorMessage(thrown) }, `cannot ${what} a pod`)
    }
  }
  return {
    async onEnrolled({ enrolment, uid, namespace, name, serviceAccount }) {
      captured.set(uid, enrolment.pod)
      await pool.addPod(
        {
          uid,
          namespace,
          name,
          serviceAccount,
          identity: spiffeId({ trustDomain, namespace, serviceAccount }),
          workloadUid: podWorkloadUid(clusterId, { namespace, name }),
          addresses: enrolment.pod.addresses,
        },
        enrolment,
      )
    },
    onDraining: (uid) => void logFailure('drain', uid, pool.drainPod(uid, drainDeadlineMs)),
    onLeaving: ({ namespace, name }) =>
      peersKnowPlain(mesh, podWorkloadUid(clusterId, { namespace, name })),
    onWithdrawn: (uid, { livesOn }) => {
      captured.delete(uid)
      const deadlineMs = livesOn ? LEFT_BEHIND_DEADLINE_MS : drainDeadlineMs
      return logFailure('stop serving', uid, pool.removePod(uid, deadlineMs))
    },
  }
}

async function reEnrol(
  capture: NodeCapture,
  captured: ReadonlyMap<string, CapturePod>,
  uid: string,
): ReturnType<NodeCapture['enrol']> {
  const pod = captured.get(uid)
  return pod === undefined
    ? err(new AmbitError('AMB_ENROLMENT', `Cannot enrol pod ${uid} again: it has left`))
    : capture.enrol(pod)
}

function unwrap<T>(result: Result<T, AmbitError>): T {
  if (!result.ok) throw result.error
  return result.value
}
