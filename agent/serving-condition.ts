// SPDX-License-Identifier: Apache-2.0
// Says on the agent's own pod that this agent has its node. The pod asks for it (a readiness gate): it shares the node's address with the pod of
// the agent before it, so that a probe of either is answered by whoever has the ports, and only the condition tells the one from the other.

import { Backoff, delay } from '../mesh/async/backoff.ts'
import { type KubeApi, type KubeFailure, type Pod, PODS } from '../mesh/kube/index.ts'
import { SERVING_CONDITION } from '../mesh/model/names.ts'
import type { Logger } from '../mesh/telemetry/log.ts'

export interface ServingConditionOptions {
  readonly api: Pick<KubeApi, 'get' | 'patch'>
  readonly podNamespace: string
  readonly podName: string
  readonly log: Logger
}

/** Whether the pod is ready only once its agent says so. */
export const asksToBeTold = ({ spec }: Pod): boolean =>
  spec?.readinessGates?.some(({ conditionType }) => conditionType === SERVING_CONDITION) === true

export class ServingCondition implements AsyncDisposable {
  readonly #options: ServingConditionOptions
  readonly #closing = new AbortController()
  readonly #telling: Promise<void>

  /** Begins to say so, in the background, until the API server knows. */
  constructor(options: ServingConditionOptions) {
    this.#options = options
    this.#telling = this.#tell()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort()
    await this.#telling
  }

  async #tell(): Promise<void> {
    const { signal } = this.#closing
    const backoff = new Backoff()
    let complaint = ''
    while (!signal.aborted) {
      const failure = await this.#tryToTell()
      // Not run by Kubernetes, or not any more.
      if (failure === undefined || failure.kind === 'notFound') return
      if (failure.message !== complaint && failure.kind !== 'aborted') {
        complaint = failure.message
        this.#options.log.warn(`${complaint}; until then the pod of this agent is not ready`)
      }
      await delay(backoff.next(), signal)
    }
  }

  async #tryToTell(): Promise<KubeFailure | undefined> {
    const { api, podNamespace: namespace, podName: name } = this.#options
    const { signal } = this.#closing
    const read = await api.get(PODS, { namespace, name }, { signal })
    if (!read.ok) return read.error
    const { metadata, status } = read.value
    const told = status?.conditions?.find(({ type }) => type === SERVING_CONDITION)
    // Also where an earlier life of the same pod said it.
    if (!asksToBeTold(read.value) || told?.status === 'True') return undefined
    const condition = {
      type: SERVING_CONDITION,
      status: 'True',
      lastTransitionTime: new Date().toISOString(),
    }
    const written = await api.patch(
      PODS,
      { namespace, name },
      // The uid is a precondition.
      { metadata: { uid: metadata?.uid }, status: { conditions: [condition] } },
      { type: 'strategic', subresource: 'status', fieldManager: 'ambit-agent', signal },
    )
    return written.ok ? undefined : written.error
  }
}
