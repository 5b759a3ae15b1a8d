// SPDX-License-Identifier: Apache-2.0
// Puts the agent together. The order of the start is what keeps a node's pods safe: capture, then the data plane, then
// the pods of an earlier agent, then CNI and the informers, and the control plane last, which nothing waits for.

import { AmbitError, ERROR_CATALOGUE, errorMessage } from '../mesh/errors.ts'
import { heldLimitOf } from '../mesh/hbone/limits.ts'
import { CaClient } from '../mesh/identity/ca-client.ts'
import { CertificateManager } from '../mesh/identity/certificate-manager.ts'
import { watchRoots } from '../mesh/identity/watch-roots.ts'
import { createKubeApi, loadKubeConfig } from '../mesh/kube/index.ts'
import { MeshState } from '../mesh/model/mesh-state.ts'
import { err, ok, type Result } from '../mesh/result.ts'
import { releaseAll } from '../mesh/program/release.ts'
import type { Running } from '../mesh/program/run.ts'
import { VERSION } from '../mesh/program/version.ts'
import type { Logger } from '../mesh/telemetry/log.ts'
import { XdsClient } from '../mesh/xds/client.ts'
import { meshSubscription } from '../mesh/xds/mesh-subscription.ts'
import { configDump } from './admin/config-dump.ts'
import { descriptorLimit } from '../mesh/program/descriptor-limit.ts'
import { listen } from '../mesh/program/listen.ts'
import { AgentMetrics } from './admin/metrics.ts'
import { Readiness } from '../mesh/program/readiness.ts'
import { createAdminServer, createMetricsServer, createReadinessServer } from './admin/servers.ts'
import { openCapture } from './capture/index.ts'
import { installCni, startCniServer } from './cni/index.ts'
import type { AgentConfig } from './config.ts'
import {
  DEFAULT_ELIGIBILITY,
  netnsProver,
  type NodeEnrolment,
  startEnrolment,
} from './enrolment/index.ts'
import { createPodServer } from './pod-server.ts'
import { placeLimits } from './proxy/place-limits.ts'
import type { PlaceLimits } from './proxy/places.ts'
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
  const enrolment: { node?: NodeEnrolment } = {}
  const metrics = new AgentMetrics({
    version: VERSION,
    activePods: () => enrolment.node?.enrolledPods().length ?? 0,
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
      sameNodeSecurityLabel: config.sameNodeSecurityLabel,
      trust: { trustDomain: config.trustDomain, aliases: config.trustDomainAliases },
      placeLimits: sharedPlaces(config, log),
      heldLimitBytes: heldLimitOf(config.workers),
    },
    mesh,
    certificates,
    log: log.child({ part: 'workers' }),
    onTraffic: (deltas) => metrics.add(deltas),
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
  const { trustDomain, clusterId, drainDeadlineMs } = config
  const running = await startEnrolment({
    api: createKubeApi(unwrap(access)),
    nodeName: config.nodeName,
    capture,
    server: createPodServer({ pool, mesh, trustDomain, clusterId, drainDeadlineMs, log }),
    stateDirectory: config.stateDir,
    logger: log,
    failOpen: config.failOpen,
    nodeCgroup: config.cgroup,
    prove: netnsProver(capture.thread, config.procRoot),
    procRoot: config.procRoot,
  })
  enrolment.node = running
  started.defer(() => running.close({ withdraw: ending.unpin }))
  running.synced.then(
    () => readiness.done("this node's pods"),
    (thrown: unknown) => log.debug({ error: errorMessage(thrown) }, 'closed before the first list'),
  )

  const cni = unwrap(
    await startCniServer({
      socketPath: config.cniSocket,
      handlers: running,
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
      role: 'ztunnel',
      address: config.nodeAddress,
      podName: config.podName,
      namespace: config.podNamespace,
      nodeName: config.nodeName,
      clusterId: config.clusterId,
      clusterDomain: config.clusterDomain,
    },
    subscriptions: [meshSubscription((changes) => mesh.apply(changes))],
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
  started.defer(async () => {
    // What another agent has taken over is not this one's to take out of the mesh.
    ending.unpin &&= await running.isInCharge()
  })
  const unwatch = watchRoots(config.caRootFile, log.child({ part: 'identity' }), () => {
    certificates.renewAll('the roots of the mesh have changed')
    xds.reconnect('the roots of the mesh have changed')
  })
  started.defer(unwatch)
  log.info({ node: config.nodeName, workers: config.workers }, 'the agent runs')
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

function unwrap<T>(result: Result<T, AmbitError>): T {
  if (!result.ok) throw result.error
  return result.value
}
