// SPDX-License-Identifier: Apache-2.0
// Says what concerns a pod's owner where owners look: in the pod's events (`kubectl describe pod`).

import { EVENTS, type KubeApi } from '../../mesh/kube/index.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { AmbitError } from '../../mesh/errors.ts'

export interface EventTarget {
  readonly uid: string
  readonly namespace: string
  readonly name: string
}

/** Posts a Warning for a pod that could not be enrolled. Best effort: the log has it in any case. */
export async function postEnrolmentFailure(
  api: KubeApi,
  logger: Logger,
  nodeName: string,
  pod: EventTarget,
  error: Error,
  signal: AbortSignal,
): Promise<void> {
  const now = new Date().toISOString()
  const advice = error instanceof AmbitError ? ` (${error.code}: ${error.hint})` : ''
  const posted = await api.create(
    EVENTS,
    {
      metadata: { generateName: `${pod.name.slice(0, 200)}.`, namespace: pod.namespace },
      type: 'Warning',
      reason: 'EnrolmentFailed',
      message:
        `${error.message}. The pod stays outside the mesh, or cut off if it was in it before${advice}`.slice(
          0,
          1024,
        ),
      involvedObject: { apiVersion: 'v1', kind: 'Pod', ...pod },
      source: { component: 'ambit-agent', host: nodeName },
      reportingComponent: 'ambit-agent',
      reportingInstance: nodeName,
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
    },
    { signal },
  )
  if (!posted.ok && posted.error.kind !== 'aborted')
    logger.warn({ uid: pod.uid }, `${posted.error.message}; the event is lost`)
}
