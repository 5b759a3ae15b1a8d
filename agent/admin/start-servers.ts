// SPDX-License-Identifier: Apache-2.0
// Puts the agent's three HTTP servers on their ports.

import type { FastifyInstance } from 'fastify'
import type { CertificateManager } from '../../mesh/identity/certificate-manager.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import { serveAudit } from '../../mesh/program/audit-route.ts'
import { listen } from '../../mesh/program/listen.ts'
import { createMetricsServer, createReadinessServer } from '../../mesh/program/proxy-servers.ts'
import { VERSION } from '../../mesh/program/version.ts'
import { readConnectionFilter } from '../../mesh/telemetry/access-spec.ts'
import type { DiscoveryHealth } from '../../mesh/xds/discovery-health.ts'
import type { PodStanding } from '../enrolment/index.ts'
import type { WorkerPool } from '../proxy/worker/worker-pool.ts'
import type { Starting } from '../starting.ts'
import { createAdminServer } from './admin-server.ts'
import { configDump } from './config-dump.ts'
import type { AgentMetrics } from './metrics.ts'
import { standingOf } from './workers-standing.ts'

export interface ServedParts {
  readonly mesh: MeshState
  readonly pool: WorkerPool
  readonly certificates: CertificateManager
  readonly metrics: AgentMetrics
  readonly discovery: DiscoveryHealth
  /** None before the node's pods are known. */
  readonly standings: () => readonly PodStanding[]
  /** Pod of the agent that is to take this one's place. */
  readonly successor: () => string | undefined
  /** Called when the admin API asks the agent to end. */
  readonly quit: () => void
}

/** Parts whose loggers are the workers'. */
const WORKER_PARTS = ['data-plane', 'access']

/** The agent's HTTP servers: on their ports while the node is this agent's, or on its way to become so. */
export class AgentServers {
  readonly #starting: Starting
  readonly #parts: ServedParts
  #open: readonly FastifyInstance[] = []

  constructor(starting: Starting, parts: ServedParts) {
    this.#starting = starting
    this.#parts = parts
  }

  /** Listens for admin, metrics and readiness. Throws AMB_LISTEN; then none listens. */
  async open(): Promise<void> {
    const { config, audit, readiness } = this.#starting
    const { metrics, pool, successor } = this.#parts
    const admin = adminServer(this.#starting, this.#parts)
    serveAudit(admin, audit)
    for (const [app, where, name] of [
      [admin, config.adminAddress, '--admin-address'],
      [createMetricsServer(metrics), config.metricsAddress, '--metrics-address'],
      [
        createReadinessServer(standingOf(readiness, pool, successor)),
        config.readinessAddress,
        '--readiness-address',
      ],
    ] as const)
      try {
        await listen(app, where, name)
        this.#open = [...this.#open, app]
      } catch (thrown) {
        await this.close()
        throw thrown
      }
  }

  /** Frees the ports; requests under way are broken off. Idempotent. */
  async close(): Promise<void> {
    const open = this.#open
    this.#open = []
    await Promise.all(open.map((app) => app.close()))
  }
}

function adminServer(
  { config, levels, readiness }: Starting,
  { mesh, pool, certificates, discovery, standings, quit }: ServedParts,
): FastifyInstance {
  return createAdminServer({
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
    access: {
      initial: { filter: config.accessLogFilter, sample: config.accessLogSample },
      readFilter: readConnectionFilter,
      onChange: (spec) => pool.setAccessSpec(spec),
    },
    profile: (thread, request) => pool.profile(thread, request),
    drain: async (name) => {
      const pods = pool
        .pods()
        .filter((pod) => name === undefined || `${pod.namespace}/${pod.name}` === name)
      await Promise.all(pods.map(({ uid }) => pool.drainPod(uid)))
      return pods.length
    },
    probe: (name, probe) => {
      const pod = pool.pods().find((each) => `${each.namespace}/${each.name}` === name)
      return pod && pool.probeCall(pod.uid, probe)
    },
    quit,
  })
}
