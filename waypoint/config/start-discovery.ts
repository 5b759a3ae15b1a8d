// SPDX-License-Identifier: Apache-2.0
// The waypoint's view of the mesh: workloads, Services, what judges calls to them, and what to do with requests.

import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { XdsClient } from '../../mesh/xds/client.ts'
import type { DiscoveryHealth } from '../../mesh/xds/discovery-health.ts'
import {
  backendTlsSubscription,
  httpRoutesSubscription,
  meshSubscription,
  waypointPolicySubscription,
} from '../../mesh/xds/mesh-subscription.ts'
import { observedBy } from '../../mesh/xds/observed.ts'
import type { WaypointConfig } from '../config.ts'
import type { WaypointMetrics } from '../metrics.ts'

export interface DiscoveryParts {
  readonly config: WaypointConfig
  readonly mesh: MeshState
  readonly health: DiscoveryHealth
  readonly metrics: WaypointMetrics
  readonly log: Logger
  /** Called when the control plane is there, for the first time or again. */
  readonly onConnected: () => void
  /** Called when the control plane has told of everything. */
  readonly onSynced: () => void
}

/** Keeps the mesh state as the control plane has it, until the client is stopped. */
export function startDiscovery(parts: DiscoveryParts): XdsClient {
  const { config, mesh, health, metrics, log, onConnected, onSynced } = parts
  const xds = new XdsClient({
    address: config.xdsAddress,
    roots: config.caRootFile,
    tokenFile: config.tokenFile,
    node: {
      role: 'waypoint',
      address: config.podAddress,
      podName: config.podName,
      namespace: config.namespace,
      nodeName: config.nodeName,
      clusterId: config.clusterId,
      clusterDomain: config.clusterDomain,
    },
    subscriptions: [
      waypointPolicySubscription,
      backendTlsSubscription,
      httpRoutesSubscription,
      meshSubscription,
    ].map((follow) => follow((changes) => mesh.apply(changes))),
    onSynced: () => {
      log.info(mesh.size, 'the mesh state is complete')
      onSynced()
    },
    ...observedBy({ health, counters: metrics.discovery, log, onConnected }),
  })
  health.of(xds)
  xds.start()
  return xds
}
