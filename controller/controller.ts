// SPDX-License-Identifier: Apache-2.0
// Puts the controller together: root, certificate service, discovery, leader's duties, health. Starts whatever it
// can while the API server is away, says on /readyz what is missing, and keeps serving what it knows.

import { Server } from '@grpc/grpc-js'
import type { FastifyInstance } from 'fastify'
import { AuditJournal } from '../mesh/audit/journal.ts'
import { AmbitError, errorMessage } from '../mesh/errors.ts'
import { type Clock, systemClock } from '../mesh/identity/clock.ts'
import { Backoff, delay } from '../mesh/async/backoff.ts'
import { KeyedBuckets } from '../mesh/async/keyed-buckets.ts'
import { type KubeApi } from '../mesh/kube/index.ts'
import { exportAudit } from '../mesh/program/audit-export.ts'
import { serveAudit } from '../mesh/program/audit-route.ts'
import { listen } from '../mesh/program/listen.ts'
import { Readiness } from '../mesh/program/readiness.ts'
import { releaseAll } from '../mesh/program/release.ts'
import { type Result, err, ok } from '../mesh/result.ts'
import { descriptorLimit } from '../mesh/program/descriptor-limit.ts'
import { resourceOf, startTelemetryExport } from '../mesh/program/telemetry-export.ts'
import { VERSION } from '../mesh/program/version.ts'
import type { Logger } from '../mesh/telemetry/log.ts'
import type { LogLevels } from '../mesh/telemetry/log-levels.ts'
import { XDS_SERVER_OPTIONS } from '../mesh/xds/server.ts'
import { callGate } from './auth/call-gate.ts'
import { type ComponentDirectory, componentGate } from './auth/component-gate.ts'
import { PodIndex } from './auth/pod-index.ts'
import { standingOf } from './auth/standing.ts'
import { publishRoot } from './ca/root-publisher.ts'
import { publishTrustBundle } from './ca/trust-bundle-publisher.ts'
import { type Authority, AuthoritySource } from './ca/authority-source.ts'
import { type CaSecretOptions, type KeptAuthority, loadOrCreateAuthority } from './ca/ca-secret.ts'
import { KubernetesSigner } from './ca/kubernetes-signer.ts'
import { addCertificateService, CERTIFICATE_RATE } from './ca/service.ts'
import { ServingCertificate } from './ca/serving-certificate.ts'
import { TokenAuthenticator } from './auth/token-authenticator.ts'
import { servingNames } from './ca/certificate-names.ts'
import { objectKey, podKey } from './core/origin.ts'
import { type ControllerReport, createControllerAdmin } from './admin.ts'
import type { ControllerConfig } from './config.ts'
import { startHealthServer } from './health.ts'
import { removeAgentTaint } from './nodes/agent-taint.ts'
import { keepGatewayClasses } from './provisioner/gateway-classes.ts'
import { provisionWaypoints } from './provisioner/provisioner.ts'
import { provisionSettings } from './provisioner/settings.ts'
import { LeaderElection, type LeaseTimings } from './leader/leader-election.ts'
import { type ControllerMetrics, createMetrics } from './metrics.ts'
import { connectionBudget } from './serve/connection-budget.ts'
import { type Discovery, startDiscovery } from './serve/discovery.ts'
import { GrpcListener } from './serve/grpc-listener.ts'
import { exchangeReports, type ReportTimings } from './status/acknowledgements/exchange-reports.ts'
import { writeStatuses } from './status/status-writer.ts'
import { watchCluster } from './sources/watch-cluster.ts'

export interface ControllerOptions {
  readonly config: ControllerConfig
  readonly api: KubeApi
  readonly log: Logger
  /** Takes each line of the audit. */
  readonly writeAudit: (line: string) => void
  readonly levels: LogLevels
  readonly clock?: Clock
  readonly leaseTimings?: LeaseTimings
  readonly reportTimings?: ReportTimings
  /** Gives up starting. */
  readonly signal: AbortSignal
}

/** A controller that serves. */
export interface RunningController {
  readonly grpcPort: number
  readonly healthPort: number
  readonly adminPort: number
  readonly rootsPem: string
  readonly isLeader: boolean
  stop(): Promise<void>
}

/** Streams get this long to end by themselves when the controller stops. */
const GRPC_DRAIN_MS = 3_000
const GRPC_OPTIONS = {
  ...XDS_SERVER_OPTIONS,
  // Small even from agents that hold a large mesh: names and versions of 100,000 resources are 10 MB.
  'grpc.max_receive_message_length': 16 * 1024 * 1024,
  // Of one connection; an agent uses one for discovery and at most eight for certificates.
  'grpc.max_concurrent_streams': 32,
  // A token is checked when a call begins, and a discovery stream goes on for ever: so nobody stays who has lost the right to.
  'grpc.max_connection_age_ms': 60 * 60_000,
  'grpc.max_connection_age_grace_ms': 10_000,
  // A channel for certificates is used twice a day.
  'grpc.max_connection_idle_ms': 5 * 60_000,
}
const LEASE_NAME = 'ambit-controller'
/** Of the name controllers give in their lease, so that two processes of one pod name never share it. */
const leaseHolder = (podName: string): string => `${podName}_${crypto.randomUUID()}`

/** Starts everything; the error is one that waiting will not cure. */
export async function startController(
  options: ControllerOptions,
): Promise<Result<RunningController, AmbitError>> {
  const parts = new AsyncDisposableStack()
  const stop = (): Promise<void> => releaseAll(parts, options.log)
  try {
    const started = await start(options, parts, stop)
    if (!started.ok) await stop()
    return started
  } catch (thrown) {
    await stop()
    if (thrown instanceof AmbitError) return err(thrown)
    throw thrown
  }
}

async function start(
  options: ControllerOptions,
  parts: AsyncDisposableStack,
  stop: () => Promise<void>,
): Promise<Result<RunningController, AmbitError>> {
  const { config, api, log } = options
  const clock = options.clock ?? systemClock
  const metrics = createMetrics()
  const audit = new AuditJournal({ write: options.writeAudit })
  parts.defer(() => audit.close())
  const exported = await startTelemetryExport(
    config,
    resourceOf('ambit-controller', {
      namespace: config.namespace,
      pod: config.podName,
      cluster: config.clusterId,
    }),
    metrics,
    log.child({ part: 'telemetry' }),
  )
  if (exported !== undefined) {
    metrics.include(() => exported.families())
    parts.defer(() => exported.close())
    parts.defer(await exportAudit(audit, exported))
  }
  // What it tells of parts that are still to come is told once they are there.
  const sight: { report?: () => ControllerReport } = {}
  const admin = createControllerAdmin(() => sight.report?.(), options.levels)
  serveAudit(admin, audit)
  await listen(admin, config.adminAddress, '--admin-address')
  parts.defer(() => admin.close())
  const readiness = new Readiness(['root', 'cluster', 'grpc'])
  const budget = connectionBudget(descriptorLimit())
  const health = await startHealthServer(config.healthAddress, readiness, metrics, budget.health)
  parts.defer(() => health.close())

  const secrets: CaSecretOptions = {
    namespace: config.namespace,
    selfMade: config.caSecret,
    plugIn: config.plugInCaSecret,
    trustDomain: config.trustDomain,
    log: log.child({ part: 'authority' }),
  }
  const loaded = await waitForAuthority(options, secrets)
  if (!loaded.ok) return loaded
  const authority = new AuthoritySource(api, loaded.value, {
    ...secrets,
    clock,
    onRefused: (isRefused) => metrics.setSecretRefused(isRefused),
  })
  parts.defer(() => authority.close())
  readiness.set('root', true)
  metrics.setRootExpiry(authority.current.notAfter)
  authority.onChange(({ notAfter }) => metrics.setRootExpiry(notAfter))

  const serving = new ServingCertificate(authority, { names: servingNames(config), clock, log })
  await serving.start()
  parts.defer(() => serving.close())
  const authenticator = new TokenAuthenticator(api, { audience: config.tokenAudience })
  const agents = new Set(config.trustedNodeAccounts)
  const directory: ComponentDirectory = {
    agents,
    waypoints: {
      accountOf: (namespace, gateway) => {
        const key = objectKey(config.clusterId, namespace, gateway)
        const waypoint = discovery.mesh.waypoints.get(key)
        // One whose listeners are none of a waypoint's has no pods. The account of the others has the name of the Gateway.
        return waypoint?.allowed === undefined ? undefined : waypoint.name
      },
    },
  }
  const gate = callGate({
    authenticator,
    // It knows pods from discovery, too.
    standingOf: (caller) => standingOf(caller, directory, pods),
    log: log.child({ part: 'gate' }),
    onCall: (peer) => listener.called(peer),
    onAuthenticated: (peer, account) => listener.authenticated(peer, account),
    onRefused: (kind) => metrics.callRefused(kind),
  })
  const server = new Server({ ...GRPC_OPTIONS, interceptors: [gate] })
  const listener = new GrpcListener({
    server,
    credentials: serving.serverCredentials(),
    budget,
    log: log.child({ part: 'listener' }),
    onCut: (bound) => metrics.connectionCut(bound),
  })
  metrics.watchConnections(() => ({ ...listener.connections }))
  const discovery = startDiscovery({
    grpcServer: server,
    config,
    // It knows pods from discovery; nobody is let in before the server listens.
    authenticate: (metadata, signal, peer) => components(metadata, signal, peer),
    logger: log.child({ part: 'discovery' }),
  })
  const setSecrets = (): void => {
    discovery.setSecret('sessions', authority.current.derive('sessions'))
  }
  setSecrets()
  authority.onChange(setSecrets)
  const pods = new PodIndex(discovery.sources.collections.Pod, config.clusterId)
  const components = componentGate(authenticator, { api, pods }, directory)
  const cluster = watchCluster({
    api,
    origin: { cluster: config.clusterId, clusterDomain: config.clusterDomain },
    sources: discovery.sources,
    logger: log,
    ignoresNetworkPolicies: config.networkPolicies === 'ignore',
  })
  parts.defer(() => cluster.close())
  metrics.watchStaleness(() => cluster.stale())
  cluster.synced.then(
    () => {
      discovery.complete()
      readiness.set('cluster', true)
    },
    () => log.debug('stopped before the cluster was listed'),
  )
  const signer =
    config.certificateSigner === ''
      ? undefined
      : new KubernetesSigner(api, {
          signerName: config.certificateSigner,
          log: log.child({ part: 'signer' }),
        })
  if (signer !== undefined) parts.defer(() => signer.close())
  addCertificateService(server, {
    signer,
    api,
    pods,
    authority,
    log: log.child({ part: 'ca' }),
    audit,
    authenticator,
    limiter: new KeyedBuckets(CERTIFICATE_RATE),
    trustDomain: config.trustDomain,
    clusterId: config.clusterId,
    trustedNodeAccounts: agents,
    onOutcome: (outcome) => metrics.certificateOutcome(outcome),
  })
  const grpcPort = await listener.listen(config.listen)
  parts.defer(() => shutDown(server))
  parts.defer(() => listener.close())
  parts.defer(() => discovery.stop())

  const election = electLeader(options, clock, {
    authority,
    metrics,
    discovery,
  })
  parts.defer(() => election.stop())
  parts.defer(tellReplicas(options, discovery, () => election.isLeader))
  sight.report = () => ({
    version: VERSION,
    podName: config.podName,
    isLeader: election.isLeader,
    pending: readiness.pending(),
    stale: cluster.stale(),
    trustDomain: config.trustDomain,
    rootNotAfter: authority.current.notAfter.toISOString(),
    resources: discovery.xds.offered(),
    clients: discovery.xds.clients(),
  })
  // Released first: no new caller while the rest ends.
  parts.defer(() => readiness.set('grpc', false))
  readiness.set('grpc', true)
  log.info({ grpcPort, trustDomain: config.trustDomain }, 'controller started')
  return ok({
    grpcPort,
    healthPort: portOf(health),
    adminPort: portOf(admin),
    get rootsPem() {
      return authority.current.bundlePem
    },
    get isLeader() {
      return election.isLeader
    },
    stop,
  })
}

/** Reads the authority, or makes a root; waits for the API server, but not for a broken Secret to mend itself. */
/** While the API server is away: soon enough for whoever starts both, no load for one that is overwhelmed. */
const API_RETRIES = { firstMs: 1_000, longestMs: 5_000 }

async function waitForAuthority(
  { api, log, signal }: ControllerOptions,
  secrets: CaSecretOptions,
): Promise<Result<KeptAuthority, AmbitError>> {
  const backoff = new Backoff(API_RETRIES)
  for (let failures = 1; ; failures += 1) {
    const loaded = await loadOrCreateAuthority(api, secrets)
    if (loaded.ok) return loaded
    if (loaded.error.kind === 'broken') return err(loaded.error.error)
    if (signal.aborted)
      return err(new AmbitError('AMB_KUBE_API', `Cannot start: ${loaded.error.failure.message}`))
    log.warn({ reason: loaded.error.failure.message, failures }, 'waiting for the API server')
    await delay(backoff.next(), signal)
  }
}

interface LeaderDuties {
  readonly authority: Authority
  readonly metrics: ControllerMetrics
  readonly discovery: Discovery
}

interface Leadership {
  readonly isLeader: boolean
  stop(): Promise<void>
}

/** Takes part in the election and does the leader's duties for as long as this replica leads. */
function electLeader(options: ControllerOptions, clock: Clock, duties: LeaderDuties): Leadership {
  const { config, api, log } = options
  const { authority, metrics, discovery } = duties
  const { statuses, mesh, sources, outcomes } = discovery
  const cluster = config.clusterId
  let working: Promise<unknown> = Promise.resolve()
  const guarded = async (part: string, work: () => Promise<void>): Promise<void> => {
    try {
      await work()
    } catch (thrown) {
      log.error({ error: errorMessage(thrown) }, `the ${part} crashed`)
    }
  }
  const work = (signal: AbortSignal): Promise<unknown> =>
    Promise.all([
      guarded('root publisher', () =>
        publishRoot(api, {
          authority,
          log: log.child({ part: 'root-publisher' }),
          signal,
          onWrite: () => metrics.rootWritten(),
        }),
      ),
      guarded('trust bundle publisher', () =>
        publishTrustBundle(api, { authority, log: log.child({ part: 'root-publisher' }), signal }),
      ),
      guarded('status writer', () =>
        writeStatuses(api, { sources: statuses, log: log.child({ part: 'status' }), signal }),
      ),
      guarded('class keeper', () =>
        keepGatewayClasses(api, {
          classes: sources.collections.GatewayClass,
          cluster,
          log: log.child({ part: 'gateway-classes' }),
          signal,
        }),
      ),
      guarded('taint remover', async () => {
        if (config.agentTaint === '') return
        await removeAgentTaint(api, {
          key: config.agentTaint,
          nodes: sources.collections.Node,
          pods: sources.collections.Pod,
          agents: new Set(config.trustedNodeAccounts),
          cluster,
          log: log.child({ part: 'nodes' }),
          signal,
        })
      }),
      guarded('provisioner', () =>
        provisionWaypoints(api, {
          orders: mesh.waypointOrders,
          others: mesh.othersGateways,
          cluster,
          settings: provisionSettings(config),
          outcomes,
          log: log.child({ part: 'provisioner' }),
          signal,
        }),
      ),
    ])
  const election = new LeaderElection(api, {
    namespace: config.namespace,
    name: LEASE_NAME,
    holder: leaseHolder(config.podName),
    clock,
    log,
    ...(options.leaseTimings && { timings: options.leaseTimings }),
    onElected: (signal) => {
      metrics.setLeader(true)
      signal.addEventListener('abort', () => metrics.setLeader(false), { once: true })
      working = working.then(() => work(signal))
    },
  })
  election.start()
  return {
    get isLeader() {
      return election.isLeader
    },
    stop: async () => {
      await election.stop()
      await working
    },
  }
}

/** Exchanges with the other replicas what agents have acknowledged; returns how to stop. */
function tellReplicas(
  { config, api, log, reportTimings }: ControllerOptions,
  { acknowledgements, sources }: Discovery,
  isLeader: () => boolean,
): () => Promise<void> {
  const { clusterId, namespace, podName } = config
  const ending = new AbortController()
  const ownKey = podKey(clusterId, namespace, podName)
  const options = {
    ...acknowledgements,
    namespace,
    podName,
    podUid: () => sources.collections.Pod.get(ownKey)?.kubernetesUid,
    isLeader,
    log: log.child({ part: 'replicas' }),
    ...(reportTimings && { timings: reportTimings }),
  }
  const exchanging = exchangeReports(api, options, ending.signal)
  return async () => {
    ending.abort()
    await exchanging
  }
}

function portOf(server: FastifyInstance): number {
  const address = server.addresses()[0]
  return typeof address === 'object' ? address.port : 0
}

/** Lets calls end, then cuts what is left. */
async function shutDown(server: Server): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(() => {
      server.forceShutdown()
      resolve()
    }, GRPC_DRAIN_MS)
    server.tryShutdown(() => {
      clearTimeout(timer)
      resolve()
    })
  })
}
