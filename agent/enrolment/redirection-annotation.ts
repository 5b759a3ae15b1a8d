// SPDX-License-Identifier: Apache-2.0
// Tells the control plane which pods speak HBONE, by an annotation on the pod: Istio's, which istiod and tools read as well. Written
// after capture is live, taken away before it ends (when the pod lives on), tried again until the API server has it.
//
// Istio's agents write it, too, take it off whatever pod is not theirs, and take for captured by them what has it. So where the cluster is
// shared, one of our own is written in its place; what others wrote is never taken off; and whoever keeps taking it off is left his way.

import { Backoff, delay } from '../../mesh/async/backoff.ts'
import { PODS, type KubeApi, type KubeFailure, type Pod } from '../../mesh/kube/index.ts'
import { OWN_REDIRECTION_ANNOTATION, REDIRECTION_ANNOTATION } from '../../mesh/model/names.ts'
import { ok, type Result } from '../../mesh/result.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { Ownership } from './ownership.ts'

/** Read by the controller (and istiod). */
const ENABLED = 'enabled'
const FIELD_MANAGER = 'ambit-agent'
/** Put back so often within that time, Istio's annotation is somebody else's business: a person's hand is not that fast. */
const PATIENCE = 8
const PATIENCE_MS = 600_000

export interface AnnotatedPod {
  readonly uid: string
  readonly namespace: string
  readonly name: string
}

export interface AnnotationOptions {
  readonly api: KubeApi
  readonly ownership: Pick<Ownership, 'holds'>
  readonly logger: Logger
  readonly signal: AbortSignal
  /** Another mesh has a part of the cluster: Istio's annotation is its own. */
  readonly sharesCluster: boolean
}

/** Whether the pod's object says so by this annotation. */
const says = (pod: Pod, annotation: string): boolean =>
  pod.metadata?.annotations?.[annotation] === ENABLED

export class RedirectionAnnotations {
  readonly #options: AnnotationOptions
  #givesUp = false
  readonly #wanted = new Map<string, boolean>()
  /** What was written last, by pod. */
  readonly #written = new Map<string, boolean>()
  /** One writer a pod, so that an older wish never overtakes a newer one. */
  readonly #writers = new Map<string, Promise<void>>()
  /** Pods whose annotation of Istio's is not ours to touch: another wrote it, or keeps taking it off. */
  readonly #others = new Set<string>()
  /** How often it was put back, and since when that is counted, by pod. */
  readonly #putBack = new Map<string, { readonly times: number; readonly sinceMs: number }>()

  constructor(options: AnnotationOptions) {
    this.#options = options
  }

  /** Makes the annotations say whether the pod is captured; returns at once. */
  set(pod: AnnotatedPod, isCaptured: boolean): void {
    this.#wanted.set(pod.uid, isCaptured)
    if (this.#writers.has(pod.uid) || this.#options.signal.aborted) return
    const writer = this.#write(pod)
      .catch((thrown: unknown) => {
        this.#options.logger.error({ error: thrown, uid: pod.uid }, 'annotating a pod failed')
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
    const isLeft = this.#isLeftToOthers(uid)
    return (
      !this.#wanted.has(uid) &&
      written === isCaptured &&
      says(pod, OWN_REDIRECTION_ANNOTATION) === (isCaptured && isLeft) &&
      (this.#others.has(uid) || says(pod, REDIRECTION_ANNOTATION) === (isCaptured && !isLeft))
    )
  }

  /** The mesh is being uninstalled: what the API server forbids by now, it will not allow again. */
  giveUpWhenRefused(): void {
    this.#givesUp = true
  }

  /** The pod is gone: nothing is to be written any more. */
  forget(uid: string): void {
    this.#wanted.delete(uid)
    this.#written.delete(uid)
    this.#others.delete(uid)
    this.#putBack.delete(uid)
  }

  /** Resolves when everything wanted so far is written or given up. */
  async settled(): Promise<void> {
    await Promise.all(this.#writers.values())
  }

  /** Whether Istio's annotation is not ours to write on this pod: ours says it then. */
  #isLeftToOthers(uid: string): boolean {
    return this.#options.sharesCluster || this.#others.has(uid)
  }

  /** Counts that it was put back once more. */
  #countPutBack({ uid }: AnnotatedPod): void {
    const nowMs = performance.now()
    const { times, sinceMs } = this.#putBack.get(uid) ?? { times: 0, sinceMs: nowMs }
    const isLongAgo = nowMs - sinceMs > PATIENCE_MS
    this.#putBack.set(uid, isLongAgo ? { times: 1, sinceMs: nowMs } : { times: times + 1, sinceMs })
  }

  /** Whether putting it back has no end; then it is given up, and stays off. */
  #isPutBackInVain({ uid, namespace, name }: AnnotatedPod): boolean {
    const putBack = this.#putBack.get(uid)
    if (putBack === undefined || putBack.times < PATIENCE) return false
    if (performance.now() - putBack.sinceMs > PATIENCE_MS) return false
    this.#others.add(uid)
    this.#options.logger.warn(
      { pod: `${namespace}/${name}`, uid },
      `another agent keeps taking ${REDIRECTION_ANNOTATION} off: it is left so, and ${OWN_REDIRECTION_ANNOTATION} says that the pod is captured`,
    )
    return true
  }

  async #write(pod: AnnotatedPod): Promise<void> {
    const { logger, ownership, signal } = this.#options
    const backoff = new Backoff()
    let complaint = ''
    for (;;) {
      const isCaptured = this.#wanted.get(pod.uid)
      if (isCaptured === undefined || signal.aborted) return
      // What another agent says of its pods by now is not to be contradicted.
      if (!(await ownership.holds())) return this.forget(pod.uid)
      const written = await this.#tryToWrite(pod, isCaptured)
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
        logger.warn({ uid: pod.uid }, `${written.error.message}; the annotation stays`)
        return this.forget(pod.uid)
      }
      if (written.error.kind !== 'aborted' && written.error.message !== complaint) {
        complaint = written.error.message
        logger.warn({ uid: pod.uid }, `${complaint}; trying again`)
      }
      await delay(backoff.next(), signal)
    }
  }

  async #tryToWrite(pod: AnnotatedPod, isCaptured: boolean): Promise<Result<unknown, KubeFailure>> {
    const { api, sharesCluster, signal } = this.#options
    const isLeft = this.#isLeftToOthers(pod.uid)
    const saysIstios = isCaptured && !isLeft
    const isPutBack = saysIstios && this.#written.get(pod.uid) === true
    const annotations: Record<string, string | null> = {
      [OWN_REDIRECTION_ANNOTATION]: isCaptured && isLeft ? ENABLED : null,
      ...(saysIstios && { [REDIRECTION_ANNOTATION]: ENABLED }),
    }
    // Whose it is has to be known before it is taken off, and that it is gone before somebody is said to have taken it off.
    if (isPutBack || !isCaptured || sharesCluster) {
      const read = await api.get(PODS, { namespace: pod.namespace, name: pod.name }, { signal })
      if (!read.ok) return read
      if (isPutBack) {
        if (says(read.value, REDIRECTION_ANNOTATION)) return ok(undefined)
        if (this.#isPutBackInVain(pod)) return this.#tryToWrite(pod, isCaptured)
      } else if (!isTheirs(read.value)) annotations[REDIRECTION_ANNOTATION] = null
      else {
        this.#others.add(pod.uid)
        if (says(read.value, OWN_REDIRECTION_ANNOTATION) === isCaptured) return ok(undefined)
      }
    }
    const patched = await api.patch(
      PODS,
      { namespace: pod.namespace, name: pod.name },
      // The uid is a precondition: a successor of the same name answers with a conflict.
      { metadata: { uid: pod.uid, annotations } },
      { subresource: 'status', fieldManager: FIELD_MANAGER, signal },
    )
    if (isPutBack && patched.ok) this.#countPutBack(pod)
    return patched
  }

  async #isReplaced({ uid, ...pod }: AnnotatedPod): Promise<boolean> {
    const current = await this.#options.api.get(PODS, pod, { signal: this.#options.signal })
    return current.ok ? current.value.metadata?.uid !== uid : current.error.kind === 'notFound'
  }
}

/** Whether somebody else wrote Istio's annotation, by what the API server remembers of who wrote what. */
function isTheirs({ metadata }: Pod): boolean {
  if (metadata?.annotations?.[REDIRECTION_ANNOTATION] === undefined) return false
  const writers = (metadata.managedFields ?? [])
    .filter(({ fieldsV1 }) => ownsAnnotation(fieldsV1))
    .map(({ manager }) => manager)
  return writers.length > 0 && !writers.includes(FIELD_MANAGER)
}

/** Whether a set of fields (metav1.FieldsV1) has Istio's annotation. */
function ownsAnnotation(fields: unknown): boolean {
  const { 'f:metadata': metadata } = (fields ?? {}) as {
    readonly 'f:metadata'?: { readonly 'f:annotations'?: object }
  }
  return Object.hasOwn(metadata?.['f:annotations'] ?? {}, `f:${REDIRECTION_ANNOTATION}`)
}
