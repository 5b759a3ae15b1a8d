// SPDX-License-Identifier: Apache-2.0
// Tells the control plane which pods speak HBONE, by an annotation on the pod. Written after
// capture is live, taken away before it ends (when the pod lives on), tried again until the API server has it.

import { Backoff, delay } from '../../mesh/async/backoff.ts'
import { PODS, type KubeApi, type Pod } from '../../mesh/kube/index.ts'
import { REDIRECTION_ANNOTATION } from '../../mesh/model/names.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { Ownership } from './ownership.ts'

/** Read by the controller (and istiod). */
const ENABLED = 'enabled'

export interface AnnotatedPod {
  readonly uid: string
  readonly namespace: string
  readonly name: string
}

/** Whether the pod's object says that it is captured. */
const isAnnotated = (pod: Pod): boolean =>
  pod.metadata?.annotations?.[REDIRECTION_ANNOTATION] === ENABLED

export class RedirectionAnnotations {
  readonly #api: KubeApi
  readonly #logger: Logger
  readonly #signal: AbortSignal
  readonly #ownership: Pick<Ownership, 'holds'>
  #givesUp = false
  readonly #wanted = new Map<string, boolean>()
  /** What was written last, by pod. */
  readonly #written = new Map<string, boolean>()
  /** One writer a pod, so that an older wish never overtakes a newer one. */
  readonly #writers = new Map<string, Promise<void>>()

  constructor(
    api: KubeApi,
    ownership: Pick<Ownership, 'holds'>,
    logger: Logger,
    signal: AbortSignal,
  ) {
    this.#api = api
    this.#ownership = ownership
    this.#logger = logger
    this.#signal = signal
  }

  /** Makes the annotation say whether the pod is captured; returns at once. */
  set(pod: AnnotatedPod, isCaptured: boolean): void {
    this.#wanted.set(pod.uid, isCaptured)
    if (this.#writers.has(pod.uid) || this.#signal.aborted) return
    const writer = this.#write(pod)
      .catch((thrown: unknown) => {
        this.#logger.error({ error: thrown, uid: pod.uid }, 'annotating a pod failed')
      })
      .finally(() => this.#writers.delete(pod.uid))
    this.#writers.set(pod.uid, writer)
  }

  /**
   * Whether nothing needs to be written. The object at hand may be older than what was written last, or be about
   * to be overwritten: only when all agree is there nothing to do.
   */
  isRight(pod: Pod, isCaptured: boolean): boolean {
    const uid = pod.metadata?.uid ?? ''
    const written = this.#written.get(uid) ?? isCaptured
    return !this.#wanted.has(uid) && written === isCaptured && isAnnotated(pod) === isCaptured
  }

  /** The mesh is being uninstalled: what the API server forbids by now, it will not allow again. */
  giveUpWhenRefused(): void {
    this.#givesUp = true
  }

  /** The pod is gone: nothing is to be written any more. */
  forget(uid: string): void {
    this.#wanted.delete(uid)
    this.#written.delete(uid)
  }

  /** Resolves when everything wanted so far is written or given up. */
  async settled(): Promise<void> {
    await Promise.all(this.#writers.values())
  }

  async #write(pod: AnnotatedPod): Promise<void> {
    const backoff = new Backoff()
    let complaint = ''
    for (;;) {
      const isCaptured = this.#wanted.get(pod.uid)
      if (isCaptured === undefined || this.#signal.aborted) return
      // What another agent says of its pods by now is not to be contradicted.
      if (!(await this.#ownership.holds())) return this.forget(pod.uid)
      const written = await this.#api.patch(
        PODS,
        { namespace: pod.namespace, name: pod.name },
        {
          metadata: {
            // A precondition: a successor of the same name answers with a conflict.
            uid: pod.uid,
            annotations: { [REDIRECTION_ANNOTATION]: isCaptured ? ENABLED : null },
          },
        },
        { subresource: 'status', fieldManager: 'ambit-agent', signal: this.#signal },
      )
      if (written.ok || written.error.kind === 'notFound') {
        this.#written.set(pod.uid, isCaptured)
        // Another wish may have come while this one was on its way.
        if (this.#wanted.get(pod.uid) === isCaptured) {
          this.#wanted.delete(pod.uid)
          return
        }
        continue
      }
      if (written.error.kind === 'conflict' && (await this.#isReplaced(pod)))
        return this.forget(pod.uid)
      const isRefused = written.error.kind === 'forbidden' || written.error.kind === 'unauthorized'
      if (this.#givesUp && isRefused) {
        this.#logger.warn({ uid: pod.uid }, `${written.error.message}; the annotation stays`)
        return this.forget(pod.uid)
      }
      if (written.error.kind !== 'aborted' && written.error.message !== complaint) {
        complaint = written.error.message
        this.#logger.warn({ uid: pod.uid }, `${complaint}; trying again`)
      }
      await delay(backoff.next(), this.#signal)
    }
  }

  async #isReplaced(pod: AnnotatedPod): Promise<boolean> {
    const current = await this.#api.get(PODS, pod, { signal: this.#signal })
    return current.ok ? current.value.metadata?.uid !== pod.uid : current.error.kind === 'notFound'
  }
}
