// SPDX-License-Identifier: Apache-2.0
// Puts the agent's three HTTP servers on their ports.

import type { CertificateManager } from '../../mesh/identity/certificate-manager.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import { serveAudit } from '../../mesh/program/audit-route.ts'
import { listen } from '../../mesh/program/listen.ts'
import { VERSION } from '../../mesh/program/version.ts'
import type { WorkerPool } from '../proxy/worker/worker-pool.ts'
import type { Starting } from '../starting.ts'
import { configDump } from './config-dump.ts'
import type { AgentMetrics } from './metrics.ts'
import { createAdminServer, createMetricsServer, createReadinessServer } from './servers.ts'

export interface ServedParts {
  readonly mesh: MeshState
  readonly pool: WorkerPool
  readonly certificates: CertificateManager
  readonly metrics: AgentMetrics
  /** Called when the admin API asks the agent to end. */
  readonly quit: () => void
}

/** Listens for admin, metrics and readiness. Throws AMB_LISTEN. */
export async function startServers(
  { config, log, audit, readiness, started }: Starting,
  { mesh, pool, certificates, metrics, quit }: ServedParts,
): Promise<void> {
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
