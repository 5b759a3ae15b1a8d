// SPDX-License-Identifier: Apache-2.0
// Puts the waypoint together: its certificate, its view of the mesh, the data plane, and the ports for those who watch over it. It serves
// once it has all of them, and goes on with what it has while the control plane is away.

import { AuditJournal } from '../mesh/audit/journal.ts'
import { exportAudit } from '../mesh/program/audit-export.ts'
import { AmbitError, errorMessage } from '../mesh/errors.ts'
import { RevocationFiles } from '../mesh/identity/revocation-files.ts'
import { spiffeId } from '../mesh/identity/spiffe.ts'
import { watchRoots } from '../mesh/identity/watch-roots.ts'
import { formatHostPort } from '../mesh/model/host-port.ts'
import { MeshState } from '../mesh/model/mesh-state.ts'
import { podWorkloadUid } from '../mesh/model/names.ts'
import { Readiness } from '../mesh/program/readiness.ts'
import { releaseAll } from '../mesh/program/release.ts'
import type { Running } from '../mesh/program/run.ts'
import {
  resourceOf,
  startTelemetryExport,
  type TelemetryExport,
} from '../mesh/program/telemetry-export.ts'
import { VERSION } from '../mesh/program/version.ts'
import type { SocketEngine } from '../mesh/relay/socket-engine.ts'
import { err, ok, type Result } from '../mesh/result.ts'
import type { Logger } from '../mesh/telemetry/log.ts'
import type { LogLevels } from '../mesh/telemetry/log-levels.ts'
import { livingEnds, sweepSeries } from '../mesh/telemetry/metrics/sweep-series.ts'
import { DiscoveryHealth } from '../mesh/xds/discovery-health.ts'
import type { WaypointConfig } from './config.ts'
import { configDump } from './config-dump.ts'
import { isOwnGateway } from './config/own-gateway.ts'
import { startDiscovery } from './config/start-discovery.ts'
import { WaypointMetrics } from './metrics.ts'
import { ownCertificate } from './own-certificate.ts'
import { makeSight } from './sight.ts'
import { startServers } from './servers.ts'
import { Waypoint } from './waypoint.ts'

export interface WaypointStart {
  readonly config: WaypointConfig
  readonly log: Logger
  readonly levels: LogLevels
  /** Takes each line of the audit. */
  readonly writeAudit: (line: string) => void
  /** Of HBONE's sockets. */
  readonly engine: SocketEngine | undefined
  /** Called when it cannot go on. */
  readonly quit: () => void
}

/** A waypoint that runs. */
export interface RunningWaypoint extends Running {
  /** Of HBONE; resolves when it listens, or, with 0, will not any more. */
  readonly hbonePort: Promise<number>
}

const NEVER_ABORTED = new AbortController().signal
/** Where it never listened. */
const NO_PORT = 0

/** Starts it; a failure undoes what was started. */
export async function startWaypoint(
  options: WaypointStart,
): Promise<Result<RunningWaypoint, AmbitError>> {
  const started = new AsyncDisposableStack()
  try {
    return ok(await start(options, started))
  } catch (thrown) {
    await releaseAll(started, options.log)
    if (thrown instanceof AmbitError) return err(thrown)
    throw thrown
  }
}

async function start(
  { config, log, levels, engine, writeAudit, quit }: WaypointStart,
  started: AsyncDisposableStack,
): Promise<RunningWaypoint> {
  const readiness = new Readiness(['certificate', 'xDS', 'HBONE'])
  const { trustDomain, namespace, serviceAccount, network } = config
  const identity = spiffeId({ trustDomain, namespace, serviceAccount })
  const mesh = new MeshState({ network, rootNamespace: config.rootNamespace })
  const health = new DiscoveryHealth(config.xdsAddress)
  const serving: { waypoint?: Waypoint; exports?: TelemetryExport | undefined } = {}
  const metrics = new WaypointMetrics({
    version: VERSION,
    tunnels: () => serving.waypoint?.tunnels ?? 0,
    connections: () => ({ ...serving.waypoint?.connections }),
    meshSizes: () => ({ ...mesh.size }),
    others: () => serving.exports?.families() ?? [],
  })
  serving.exports = await startTelemetryExport(
    config,
    resourceOf('ambit-waypoint', {
      namespace,
      pod: config.podName,
      node: config.nodeName,
      cluster: config.clusterId,
    }),
    metrics,
    log.child({ part: 'telemetry' }),
  )
  started.defer(() => serving.exports?.close())
  const sight = await makeSight({ config, log, levels, metrics, exported: serving.exports })
  started.defer(() => sight.flush())
  started.use(sweepSeries(metrics.requests, () => livingEnds(mesh)))
  const selfUid = podWorkloadUid(config.clusterId, { namespace, name: config.podName })
  const audit = new AuditJournal({ write: writeAudit })
  if (serving.exports !== undefined) started.defer(await exportAudit(audit, serving.exports))
  started.defer(() => audit.close())
  const waypoint = new Waypoint({
    audit,
    own: config,
    identity,
    trustDomain,
    trustDomainAliases: config.trustDomainAliases,
    mesh,
    maxTunnels: config.maxTunnels,
    observer: sight.observer,
    tracer: sight.tracer,
    log: log.child({ part: 'waypoint' }),
    engine,
    self: () => mesh.workload(selfUid),
  })
  serving.waypoint = waypoint

  const certificates = ownCertificate(config, log.child({ part: 'identity' }), started)
  const revocations = new RevocationFiles({
    files: config.crlFiles,
    log: log.child({ part: 'identity' }),
    onLists: (lists) => waypoint.setRevocations(lists),
  })
  started.defer(() => revocations.close())
  await revocations.start()

  await startServers(
    {
      config,
      levels,
      metrics,
      readiness,
      audit,
      access: sight.access,
      configDump: (shown) =>
        configDump(
          {
            config,
            mesh,
            certificates: certificates.status(),
            discovery: health.report(),
            pending: readiness.pending(),
            tunnels: waypoint.tunnels,
            connections: waypoint.connections,
            openCalls: () => waypoint.openCalls(),
            traffic: metrics.traffic,
            isOwn: isOwnGateway(config, mesh),
          },
          shown,
        ),
    },
    started,
  )
  const synced = Promise.withResolvers<void>()
  const xds = startDiscovery({
    config,
    mesh,
    health,
    metrics,
    log,
    onConnected: () => certificates.retryFailed(),
    onSynced: synced.resolve,
  })
  started.defer(() => xds.stop())
  const renew = (): void => {
    certificates.renewAll('the roots of the mesh have changed')
    xds.reconnect('the roots of the mesh have changed')
  }
  started.defer(watchRoots(config.caRootFile, log.child({ part: 'identity' }), renew))

  const first = Promise.withResolvers<void>()
  certificates.onCertificate((certificate) => {
    waypoint.setCertificate(certificate)
    first.resolve()
  })
  certificates.retain(identity)
  // All its callers wait for it, and are nowhere to be counted: it is asked for as one that a connection waits for.
  void certificates.get(identity, NEVER_ABORTED)
  const ending = { hasBegun: false }
  const whenReady = async (): Promise<number> => {
    await Promise.all([
      first.promise.then(() => readiness.done('certificate')),
      synced.promise.then(() => readiness.done('xDS')),
    ])
    // What was waited for may come when it is told to end already: then nobody is to be let in.
    if (ending.hasBegun) return NO_PORT
    const port = await waypoint.listen(config.hboneAddress)
    readiness.done('HBONE')
    log.info({ gateway: config.gatewayName, identity, port }, 'the waypoint serves')
    return port
  }
  const hbonePort = whenReady()
  hbonePort.catch((thrown: unknown) => {
    const where = formatHostPort(config.hboneAddress)
    log.fatal({ error: errorMessage(thrown) }, `cannot listen on ${where} (--hbone-address)`)
    quit()
  })
  // Let go of first: its calls still need what the others keep.
  started.defer(async () => {
    ending.hasBegun = true
    readiness.set('HBONE', false)
    const { cut } = await waypoint.drain(config.drainDeadlineMs)
    if (cut > 0)
      log.warn(
        { cut, drainDeadlineMs: config.drainDeadlineMs },
        'calls were cut at the drain deadline',
      )
  })
  return { hbonePort, stop: () => releaseAll(started, log) }
}
