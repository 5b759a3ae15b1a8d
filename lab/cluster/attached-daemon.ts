// SPDX-License-Identifier: Apache-2.0
// What a lab runs beside its nodes when its API server is a real one: cluster DNS, the service rules of its nodes,
// the pods' way to the API server, and those controllers that the cluster does not run itself. Runs in the fabric's
// network namespace.

import { createConnection, createServer } from 'node:net'
import { once } from 'node:events'
import { pipeline } from 'node:stream'
import { LeaderElection } from '../../controller/leader/leader-election.ts'
import { systemClock } from '../../mesh/identity/clock.ts'
import { createKubeApi } from '../../mesh/kube/api.ts'
import { createLogger, environmentLogLevel } from '../../mesh/telemetry/log.ts'
import { BUILT_IN_TYPES } from '../kubernetes/objects/resource-types.ts'
import type { ControllerParts } from '../kubernetes/objects/cluster-api.ts'
import type { Controllers } from '../kubernetes/own/controllers/index.ts'
import { ServiceIndex } from '../services/kube-view.ts'
import { labLayout, nodeLayout } from '../machine/layout.ts'
import { startControllers } from '../kubernetes/own/controllers/index.ts'
import { startDnsServer } from '../services/dns/server.ts'
import { API_SERVER_PORT, FABRIC_GATEWAY4, FABRIC_GATEWAY6 } from '../network/addressing.ts'
import { startServiceProxy } from '../services/proxy/index.ts'
import { LAB_LABEL, leaseHolder, PART_LEASES, RUN_LABEL } from '../kubernetes/objects/lab-marks.ts'
import { mirrorCluster } from '../kubernetes/real/mirror.ts'
import { emptyNamespace, namespacedTypes } from '../kubernetes/real/namespace-content.ts'
import { reachableFrom } from '../kubernetes/real/reachable.ts'
import { socketAccess } from '../machine/socket-access.ts'
import { tellReady } from '../machine/tell-ready.ts'

/** What the lab tells its daemon at its start. */
export interface AttachedDaemonArguments {
  readonly lab: string
  readonly nodes: readonly string[]
  readonly apiSocket: string
  readonly relaySocket: string
  readonly runId: string
  readonly parts: ControllerParts
  /** Run them only while holding the cluster's lease for each. */
  readonly takesLeases: boolean
  /** For the ConfigMap kube-root-ca.crt, where the cluster does not publish it itself. */
  readonly rootCaPem?: string | undefined
  readonly serviceRanges: readonly string[]
}

const GATEWAYS = [FABRIC_GATEWAY4, FABRIC_GATEWAY6]

async function main(options: AttachedDaemonArguments): Promise<void> {
  const lab = labLayout(options.lab)
  const logger = createLogger('lab-daemon', environmentLogLevel())
  const api = createKubeApi(socketAccess(options.apiSocket))
  const cluster = mirrorCluster(api, logger)
  await Promise.all(GATEWAYS.map((host) => openWayForPods(host, options.relaySocket)))
  await cluster.synced(resourcesOf(options.parts))
  const start = (parts: ControllerParts): Controllers =>
    startControllers({
      api: cluster,
      parts,
      isOurNode: (node) => node.metadata.labels?.[LAB_LABEL] === lab.name,
      rootCaPem: options.rootCaPem,
      labels: { [RUN_LABEL]: options.runId },
      confirmGone: cluster.isGone,
      emptyNamespace: async (name) => emptyNamespace(api, await namespacedTypes(api), name),
      onError: (error) => logger.error({ error: error.message }, 'a controller failed'),
    })
  for (const part of ['manager', 'scheduler'] as const) {
    if (!options.parts[part]) continue
    const only = { manager: false, scheduler: false, [part]: true }
    if (!options.takesLeases) {
      start(only)
      continue
    }
    new LeaderElection(api, {
      namespace: 'kube-system',
      name: PART_LEASES[part],
      holder: leaseHolder(lab.name, options.runId),
      clock: systemClock,
      log: logger,
      onElected: (signal) => {
        const controllers = start(only)
        signal.addEventListener('abort', () => controllers.stop(), { once: true })
      },
    }).start()
  }
  const services = reachableFrom(cluster, options.nodes)
  const index = new ServiceIndex(services, () => undefined)
  await startDnsServer({ index, hosts: GATEWAYS })
  const proxy = startServiceProxy({
    api: services,
    nodes: options.nodes.map((name) => ({ name, netns: nodeLayout(lab, name).netns })),
    serviceRanges: options.serviceRanges,
    onError: (error) => logger.error({ error: error.message }, 'service rules were refused'),
  })
  await proxy.synced()
  logger.info({ controllers: options.parts }, 'the lab is attached')
  tellReady()
}

/** What has to be known before anything may be concluded from what is not there. */
function resourcesOf(parts: ControllerParts): readonly string[] {
  if (parts.manager) return BUILT_IN_TYPES.map((type) => type.id)
  const forServices = ['services', 'endpointslices.discovery.k8s.io', 'pods']
  return parts.scheduler ? [...forServices, 'nodes', 'events'] : forServices
}

/** Carries connections to the API server's address inside the fabric on to the gateway. */
async function openWayForPods(host: string, relaySocket: string): Promise<void> {
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const gateway = createConnection({ path: relaySocket, allowHalfOpen: true })
    pipeline(client, gateway, client, () => undefined)
  })
  server.listen(API_SERVER_PORT, host)
  await once(server, 'listening')
}

await main(JSON.parse(process.argv[2] ?? '{}') as AttachedDaemonArguments)
