// SPDX-License-Identifier: Apache-2.0
// Follows a controller's discovery as an agent does, or another who may see less.

import type { RunningController } from '../../controller/controller.ts'
import type { MeshChange } from '../../mesh/model/types.ts'
import {
  type httpRoutesSubscription,
  meshSubscription,
  policySubscription,
  type waypointPolicySubscription,
} from '../../mesh/xds/mesh-subscription.ts'
import { XdsClient } from '../../mesh/xds/client.ts'
import { log, type SmallCluster, type TestScope } from './small-cluster.ts'

type Followable =
  | typeof meshSubscription
  | typeof policySubscription
  | typeof waypointPolicySubscription
  | typeof httpRoutesSubscription

export function follow(
  t: TestScope,
  cluster: SmallCluster,
  controller: Pick<RunningController, 'grpcPort' | 'rootsPem'>,
  tokenFile: string,
  onChange?: (change: MeshChange) => void,
  wanted: readonly Followable[] = [policySubscription, meshSubscription],
): { readonly changes: MeshChange[]; synced: Promise<void>; refused: Promise<string> } {
  const synced = Promise.withResolvers<void>()
  const refused = Promise.withResolvers<string>()
  const changes: MeshChange[] = []
  const client = new XdsClient({
    address: `127.0.0.1:${controller.grpcPort}`,
    serverName: 'ambit-controller.ambit-system.svc',
    roots: cluster.file(controller.rootsPem),
    tokenFile,
    node: {
      role: 'ztunnel',
      address: '10.244.2.1',
      podName: 'agent-b',
      namespace: 'ambit-system',
      nodeName: 'node-b',
      clusterId: 'Kubernetes',
      clusterDomain: 'cluster.local',
    },
    subscriptions: wanted.map((subscription) =>
      subscription((batch) => {
        changes.push(...batch)
        if (onChange !== undefined) batch.forEach(onChange)
      }),
    ),
    logger: log,
    onSynced: () => synced.resolve(),
    onConnectionState: (state) => {
      if (state.kind === 'disconnected') refused.resolve(state.reason)
    },
  })
  client.start()
  t.teardown(() => client.stop())
  return { changes, synced: synced.promise, refused: refused.promise }
}
