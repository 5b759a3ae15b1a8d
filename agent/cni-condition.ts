// SPDX-License-Identifier: Apache-2.0
// Says on the agent's own pod whether new pods of the node are enrolled at their start, and if not, why: a wrong directory of CNI's is seen
// by the agent alone, and looked for by whoever installs.

import { Backoff, delay } from '../mesh/async/backoff.ts'
import { type KubeApi, type KubeFailure, PODS } from '../mesh/kube/index.ts'
import { CHAINED_CONDITION } from '../mesh/model/names.ts'
import type { Logger } from '../mesh/telemetry/log.ts'

export interface CniConditionOptions {
  readonly api: Pick<KubeApi, 'get' | 'patch'>
  readonly podNamespace: string
  readonly podName: string
  readonly log: Logger
}

export class CniCondition implements AsyncDisposable {
  readonly #options: CniConditionOptions
  readonly #closing = new AbortController()
  #problem: string | undefined
  /** Counts what is to be told; what was told for an earlier count is told again. */
  #wish = 0
  #telling: Promise<void> | undefined

  constructor(options: CniConditionOptions) {
    this.#options = options
  }

  /** Makes the pod say so, in the background, until the API server knows. Undefined: they are enrolled at their start. */
  tell(problem: string | undefined): void {
    this.#problem = problem
    this.#wish += 1
    this.#telling ??= this.#tell().finally(() => {
      this.#telling = undefined
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort()
    await this.#telling
  }

  async #tell(): Promise<void> {
    const { signal } = this.#closing
    const backoff = new Backoff()
    let complaint = ''
    let told = 0
    while (!signal.aborted && told !== this.#wish) {
      const wish = this.#wish
      const failure = await this.#tryToTell(this.#problem)
      // Not run by Kubernetes, or not any more.
      if (failure === undefined || failure.kind === 'notFound') {
        told = wish
        continue
      }
      if (failure.message !== complaint && failure.kind !== 'aborted') {
        complaint = failure.message
        this.#options.log.warn(
          `${complaint}; until then the pod of this agent does not tell of CNI`,
        )
      }
      await delay(backoff.next(), signal)
    }
  }

  async #tryToTell(problem: string | undefined): Promise<KubeFailure | undefined> {
    const { api, podNamespace: namespace, podName: name } = this.#options
    const { signal } = this.#closing
    const read = await api.get(PODS, { namespace, name }, { signal })
    if (!read.ok) return read.error
    const { metadata, status } = read.value
    const told = status?.conditions?.find(({ type }) => type === CHAINED_CONDITION)
    const condition = {
      type: CHAINED_CONDITION,
      status: problem === undefined ? 'True' : 'False',
      reason: problem === undefined ? 'Chained' : 'NotChained',
      message: problem ?? '',
    }
    // Also where an earlier life of the same pod said it.
    if (told?.status === condition.status && (told.message ?? '') === condition.message)
      return undefined
    const lastTransitionTime = new Date().toISOString()
    const written = await api.patch(
      PODS,
      { namespace, name },
      // The uid is a precondition.
      {
        metadata: { uid: metadata?.uid },
        status: { conditions: [{ ...condition, lastTransitionTime }] },
      },
      { type: 'strategic', subresource: 'status', fieldManager: 'ambit-agent', signal },
    )
    return written.ok ? undefined : written.error
  }
}
