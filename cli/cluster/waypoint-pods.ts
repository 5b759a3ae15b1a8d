// SPDX-License-Identifier: Apache-2.0
// The pods of the mesh's waypoints, wherever they are.

import { PODS } from '../../mesh/kube/index.ts'
import { GATEWAY_NAME_LABEL } from '../../mesh/model/names.ts'
import { readWaypoints } from '../waypoint/read-waypoints.ts'
import type { ClusterTarget } from './target.ts'
import { kubeError } from './kube-reads.ts'

export interface WaypointPod {
  readonly namespace: string
  readonly pod: string
  /** The Gateway that it is a pod of. */
  readonly gateway: string
  readonly node: string
}

/** Those that run; none where nothing is a waypoint. Throws AMB_KUBE_API. */
export async function waypointPods({ api }: ClusterTarget): Promise<readonly WaypointPod[]> {
  const pods = await api.list(PODS, { labelSelector: GATEWAY_NAME_LABEL })
  if (!pods.ok) throw kubeError(pods.error)
  const found = pods.value.items.flatMap(({ metadata, spec, status }): WaypointPod[] => {
    const { name = '', namespace = '', labels = {}, deletionTimestamp } = metadata ?? {}
    const gateway = labels[GATEWAY_NAME_LABEL]
    const isRunning = status?.phase === 'Running' && deletionTimestamp === undefined
    return gateway === undefined || !isRunning
      ? []
      : [{ namespace, pod: name, gateway, node: spec?.nodeName ?? '' }]
  })
  if (found.length === 0) return found
  // Gateways of others have pods, too.
  const ours = new Set(
    (await readWaypoints(api, undefined)).map(
      ({ metadata }) => `${metadata?.namespace ?? ''}/${metadata?.name ?? ''}`,
    ),
  )
  return found.filter(({ namespace, gateway }) => ours.has(`${namespace}/${gateway}`))
}
