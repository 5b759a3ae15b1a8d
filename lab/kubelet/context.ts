// SPDX-License-Identifier: Apache-2.0
// What every part of a kubelet needs to know: whose node it is, where things are, and how to reach the API.

import type { KubeApi } from '../../mesh/kube/api.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { LabLayout, NodeLayout } from '../machine/layout.ts'
import type { NodePlan, PodAddressPool } from '../network/addressing.ts'
import type { EventRecorder } from './events.ts'
import type { ObjectCache } from './object-cache.ts'

/** Where pods find the cluster's own services. */
export interface ClusterAddresses {
  /** ClusterIP of default/kubernetes. */
  readonly kubernetesServiceIp: string
  readonly dnsIp4: string
  readonly dnsIp6: string
}

export interface KubeletContext {
  readonly lab: LabLayout
  readonly node: NodeLayout
  readonly plan: NodePlan
  readonly pool: PodAddressPool
  readonly addresses: ClusterAddresses
  readonly api: KubeApi
  readonly events: EventRecorder
  readonly objects: ObjectCache
  readonly logger: Logger
}
