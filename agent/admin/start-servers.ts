// SPDX-License-Identifier: Apache-2.0
// Puts the agent's three HTTP servers on their ports.

import type { CertificateManager } from '../../mesh/identity/certificate-manager.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import { serveAudit } from '../../mesh/program/audit-route.ts'
import { listen } from '../../mesh/program/listen.ts'
import { VERSION } from '../../mesh/program/version.ts'
import type { DiscoveryHealth } from '../discovery-health.ts'
import type { PodStanding } from '../enrolment/index.ts'
import type { WorkerPool } from '../proxy/worker/worker-pool.ts'
import type { Starting } from '../starting.ts'
import { createAdminServer } from './admin-server.ts'
import { configDump } from './config-dump.ts'
import type { AgentMetrics } from './metrics.ts'
import { createMetricsServer, createReadinessServer } from './servers.ts'

export interface ServedParts {
  readonly mesh: MeshState
  readonly pool: WorkerPool
  readonly certificates: CertificateManager
  readonly metrics: AgentMetrics
  readonly discovery: DiscoveryHealth
  /** None before the node's pods are known. */
  readonly standings: () => readonly PodStanding[]
  /** Called when the admin API asks the agent to end. */
  readonly quit: () => void
}

/** Parts whose loggers are the workers'. */
const WORKER_PARTS = ['data-plane', 'access']

/** Listens for admin, metrics and readiness. Throws AMB_LISTEN. */
export async function startServers(
  { config, levels, audit, readiness, started }: Starting,
  { mesh, pool, certificates, metrics, discovery, standings, quit }: ServedParts,
): Promise<void> {
  const admin = createAdminServer({
    configDump: (options) =>
      configDump(
        {
          mesh,
          certificates: () => certificates.status(),
          pods: () => pool.pods(),
          connections: () => pool.connections(),
          standings,
          discovery: () => discovery.report(),
          pending: () => readiness.pending(),
          version: VERSION,
          config: { ...config },
        },
        options,
      ),
    logging: {
      levels,
      otherParts: WORKER_PARTS,
      onChange: (spec) => pool.setLogLevels(spec),
    },
    profile: (thread, request) => pool.profile(thread, request),
    drain: async (name) => {
      const pods = pool
        .pods()
        .filter((pod) => name === undefined || `${pod.namespace}/${pod.name}` === name)
      await Promise.all(pods.map(({ uid }) => pool.drainPod(uid)))
      return pods.length
    },
    quit,
  })
  serveAudit(admin, audit)
  for (const [app, where, name] of [
    [admin, config.adminAddress, '--admin-address'],
    [createMetricsServer(metrics), config.metricsAddress, '--metrics-address'],
    [createReadinessServer(readiness, pool), config.readinessAddress, '--readiness-address'],
  ] as const) {
    await listen(app, where, name)
    started.defer(() => app.close())
  }
}
