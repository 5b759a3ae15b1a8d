// SPDX-License-Identifier: Apache-2.0
// A condition of the agent's own pod: written in the background, and again until the API server has it.

import { Backoff, delay } from '../mesh/async/backoff.ts'
import { type KubeApi, type KubeFailure, type Pod, PODS } from '../mesh/kube/index.ts'
import type { Logger } from '../mesh/telemetry/log.ts'

export interface OwnConditionOptions {
  readonly api: Pick<KubeApi, 'get' | 'patch'>
  readonly podNamespace: string
  readonly podName: string
  readonly log: Logger
}

export interface Condition {
  readonly status: 'True' | 'False'
  readonly reason?: string
  readonly message?: string
}

/** What is to be said on the pod as it stands; undefined: nothing. */
export type ConditionOf = (pod: Pod) => Condition | undefined

export class OwnCondition implements AsyncDisposable {
  readonly #options: OwnConditionOptions
  readonly #type: string
  /** What follows from its not being said yet, for the log. */
  readonly #meanwhile: string
  readonly #closing = new AbortController()
  /** What is still to be said. */
  #wanted: ConditionOf | undefined
  #isTelling = false
  #telling: Promise<void> | undefined

  constructor(options: OwnConditionOptions, type: string, meanwhile: string) {
    this.#options = options
    this.#type = type
    this.#meanwhile = meanwhile
  }

  /** Has the pod say so, in the background, until the API server knows; a later wish takes the place of an earlier one. */
  protected say(wanted: ConditionOf): void {
    this.#wanted = wanted
    if (!this.#isTelling) this.#telling = this.#tell()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort()
    await this.#telling
  }

  async #tell(): Promise<void> {
    this.#isTelling = true
    const { signal } = this.#closing
    const backoff = new Backoff()
    let complaint = ''
    while (!signal.aborted && this.#wanted !== undefined) {
      const wanted = this.#wanted
      const failure = await this.#tryToTell(wanted)
      // Not run by Kubernetes, or not any more.
      if (failure === undefined || failure.kind === 'notFound') {
        if (this.#wanted === wanted) this.#wanted = undefined
        continue
      }
      if (failure.message !== complaint && failure.kind !== 'aborted') {
        complaint = failure.message
        this.#options.log.warn(`${complaint}; until then the pod of this agent ${this.#meanwhile}`)
      }
      await delay(backoff.next(), signal)
    }
    this.#isTelling = false
  }

  async #tryToTell(wanted: ConditionOf): Promise<KubeFailure | undefined> {
    const { api, podNamespace: namespace, podName: name } = this.#options
    const { signal } = this.#closing
    const read = await api.get(PODS, { namespace, name }, { signal })
    if (!read.ok) return read.error
    const { metadata, status } = read.value
    const condition = wanted(read.value)
    if (condition === undefined) return undefined
    const told = status?.conditions?.find(({ type }) => type === this.#type)
    // Also where an earlier life of the same pod said it.
    if (told?.status === condition.status && (told.message ?? '') === (condition.message ?? ''))
      return undefined
    const written = await api.patch(
      PODS,
      { namespace, name },
      {
        // The uid is a precondition.
        metadata: { uid: metadata?.uid },
        status: {
          conditions: [
            { type: this.#type, ...condition, lastTransitionTime: new Date().toISOString() },
          ],
        },
      },
      { type: 'strategic', subresource: 'status', fieldManager: 'ambit-agent', signal },
    )
    return written.ok ? undefined : written.error
  }
}
