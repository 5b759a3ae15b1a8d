// SPDX-License-Identifier: Apache-2.0
// Tells users, as Kubernetes Events, what happened to their pods. Losing one must never hurt a pod.

import type { KubeApi } from '../../mesh/kube/api.ts'
import { EVENTS, type Pod } from '../../mesh/kube/resources.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'

export interface EventRecorder {
  (pod: Pod, type: 'Normal' | 'Warning', reason: string, message: string): void
}

/** Events are text for people; the API server refuses messages longer than this. */
const LONGEST_MESSAGE = 1024

/** Makes a recorder that writes in the background as this node's kubelet. */
export function eventRecorder(api: KubeApi, node: string, logger: Logger): EventRecorder {
  let counter = 0
  return (pod, type, reason, message) => {
    const { namespace = 'default', name = '', uid = '' } = pod.metadata ?? {}
    const now = new Date().toISOString()
    counter += 1
    const event = {
      metadata: { namespace, name: `${name}.${Date.now().toString(16)}${counter.toString(16)}` },
      involvedObject: { apiVersion: 'v1', kind: 'Pod', namespace, name, uid },
      type,
      reason,
      message: message.slice(0, LONGEST_MESSAGE),
      source: { component: 'kubelet', host: node },
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
    }
    void api.create(EVENTS, event).then((result) => {
      if (!result.ok) logger.debug({ reason: result.error.message }, 'event was not written')
    })
  }
}
