// SPDX-License-Identifier: Apache-2.0
// The agent's view of the mesh: discovery, and new roots when they come. Nothing waits for it.

import type { CertificateManager } from '../mesh/identity/certificate-manager.ts'
import type { MeshState } from '../mesh/model/mesh-state.ts'
import type { MeshChange } from '../mesh/model/types.ts'
import type { ServiceRoute } from '../mesh/grpc/service-route.ts'
import { XdsClient } from '../mesh/xds/client.ts'
import {
  meshSubscription,
  networkPolicySubscription,
  nodeSubscription,
  policySubscription,
} from '../mesh/xds/mesh-subscription.ts'
import { observedBy } from '../mesh/xds/observed.ts'
import type { KubeApi } from '../mesh/kube/index.ts'
import type { AgentMetrics } from './admin/metrics.ts'
import type { DiscoveryHealth } from '../mesh/xds/discovery-health.ts'
import type { MeshRoots } from './mesh-roots.ts'
import type { WorkerPool } from './proxy/worker/worker-pool.ts'
import type { Starting } from './starting.ts'

export interface DiscoveryParts {
  readonly api: KubeApi
  readonly roots: MeshRoots
  readonly route: ServiceRoute
  readonly mesh: MeshState
  readonly pool: WorkerPool
  readonly certificates: CertificateManager
  /** Told how it stands. */
  readonly health: DiscoveryHealth
  readonly metrics: Pick<AgentMetrics, 'discovery'>
  /** What was known by an earlier agent, and the control plane, which has told of everything, does not tell. */
  readonly outdated: () => readonly MeshChange[]
  /** Called when the control plane has told of everything. */
  readonly onSynced: () => void
}

/** Keeps the mesh state as the control plane has it. */
export function startDiscovery(
  { config, log, readiness, started }: Starting,
  {
    api,
    roots,
    route,
    mesh,
    pool,
    certificates,
    health,
    metrics,
    outdated,
    onSynced,
  }: DiscoveryParts,
): void {
  const xds = new XdsClient({
    address: config.xdsAddress,
    route,
    roots: () => roots.read(),
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
    subscriptions: [
      nodeSubscription,
      networkPolicySubscription,
      policySubscription,
      meshSubscription,
    ].map((follow) => follow((changes) => mesh.apply(changes))),
    onSynced: () => {
      mesh.apply([...outdated(), { kind: 'policyKnowledge', is: 'current' }])
      pool.meshSynced()
      readiness.done('xDS')
      onSynced()
      log.info(mesh.size, 'the mesh state is complete')
    },
    ...observedBy({
      health,
      counters: metrics.discovery,
      log,
      onConnected: () => certificates.retryFailed(),
    }),
  })
  health.of(xds)
  xds.start()
  started.defer(() => xds.stop())
  roots.follow(api, () => {
    certificates.renewAll('the roots of the mesh have changed')
    xds.reconnect('the roots of the mesh have changed')
  })
  started.defer(() => roots.close())
}
