// SPDX-License-Identifier: Apache-2.0
// Says what concerns a pod's owner where owners look: in the pod's events (`kubectl describe pod`).

import { type Event, EVENTS, type KubeApi } from '../../mesh/kube/index.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'

export interface EventTarget {
  readonly uid: string
  readonly namespace: string
  readonly name: string
}

export interface PodEventsOptions {
  readonly api: KubeApi
  readonly nodeName: string
  readonly logger: Logger
  readonly signal: AbortSignal
}

export interface PodWarning {
  readonly pod: EventTarget
  readonly nodeName: string
  readonly reason: string
  readonly message: string
}

/** Of what the API server takes. */
const LONGEST_MESSAGE = 1024

/** A Warning about a pod, as Kubernetes has events; `reason` is one word for filters. */
export function podWarning({ pod, nodeName, reason, message }: PodWarning): Event {
  const { uid, namespace, name } = pod
  const now = new Date().toISOString()
  return {
    metadata: { generateName: `${name.slice(0, 200)}.`, namespace },
    type: 'Warning',
    reason,
    message: message.slice(0, LONGEST_MESSAGE),
    involvedObject: { apiVersion: 'v1', kind: 'Pod', uid, namespace, name },
    source: { component: 'ambit-agent', host: nodeName },
    reportingComponent: 'ambit-agent',
    reportingInstance: nodeName,
    firstTimestamp: now,
    lastTimestamp: now,
    count: 1,
  }
}

export class PodEvents {
  readonly #options: PodEventsOptions

  constructor(options: PodEventsOptions) {
    this.#options = options
  }

  /**
   * Posts a Warning for the pod; returns at once. Best effort: whoever calls this has logged it. `reason` is one word for filters,
   * such as EnrolmentFailed.
   */
  warn(pod: EventTarget, reason: string, message: string): void {
    this.#post(pod, reason, message).catch((thrown: unknown) =>
      this.#options.logger.error({ error: thrown }, 'posting an event failed'),
    )
  }

  async #post(
    { uid, namespace, name }: EventTarget,
    reason: string,
    message: string,
  ): Promise<void> {
    const { api, nodeName, logger, signal } = this.#options
    const posted = await api.create(
      EVENTS,
      podWarning({ pod: { uid, namespace, name }, nodeName, reason, message }),
      { signal },
    )
    if (!posted.ok && posted.error.kind !== 'aborted')
      logger.warn({ uid, reason }, `${posted.error.message}; the event is lost`)
  }
}
