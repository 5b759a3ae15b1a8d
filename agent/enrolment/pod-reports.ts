// SPDX-License-Identifier: Apache-2.0
// What the world is told of a pod after each look at it: the control plane by the annotation, the pod's owner by an
// event when it cannot be enrolled.

import { AmbitError } from '../../mesh/errors.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { NetworkReport } from '../capture/types.ts'
import type { IneligibleReason } from './eligibility.ts'
import { networkWarning } from './network-warning.ts'
import type { PodEnrolment } from './pod-enrolment.ts'
import type { PodEvents } from './pod-events.ts'
import type { RedirectionAnnotations } from './redirection-annotation.ts'
import type { EnrolmentOutcome, PodName } from './types.ts'

/** The one reason against enrolling that the pod's owner has to be told: it was asked for. */
const GUEST_KERNEL: IneligibleReason = 'guestKernel'

/** What a pod does to its own network again and again is told no more often. */
const QUIET_MS = 600_000

export interface PodReportsOptions {
  readonly events: PodEvents
  readonly annotations: RedirectionAnnotations
  readonly logger: Logger
  /** Told of each pod that is not served, once for each reason. */
  readonly onRefused?: ((pod: PodName, error: Error) => void) | undefined
}

export class PodReports {
  readonly #options: PodReportsOptions
  /** The failure last posted as an event, by pod: however many retries, it is told once. */
  readonly #posted = new Map<string, string>()
  /** When each kind of warning about an enrolled pod's network was last told, by pod. */
  readonly #told = new Map<string, Map<string, number>>()

  constructor(options: PodReportsOptions) {
    this.#options = options
  }

  /** Tells how the pod stands. */
  settled(pod: PodEnrolment, outcome: EnrolmentOutcome): void {
    const { annotations } = this.#options
    if (outcome.kind === 'failed') this.#complain(pod.name, outcome.error)
    else if (outcome.kind === 'enrolled') this.#posted.delete(pod.name.uid)
    else if (outcome.kind === 'plain' && outcome.reason === GUEST_KERNEL)
      this.#complain(pod.name, guestKernel(pod.name))
    // What was restored is annotated already; the informer will tell if not.
    const { object } = pod.known
    if (outcome.kind === 'waiting' || object === undefined) return
    if (!annotations.isRight(object, pod.isEnrolled)) annotations.set(pod.name, pod.isEnrolled)
  }

  /** Tells what is to be said of the network of an enrolled pod, each kind once in a while, however often it comes. */
  network(pod: PodName, report: NetworkReport): void {
    const { reason, message } = networkWarning(report)
    const told = this.#told.get(pod.uid) ?? new Map<string, number>()
    this.#told.set(pod.uid, told)
    const now = performance.now()
    if (now - (told.get(reason) ?? Number.NEGATIVE_INFINITY) < QUIET_MS) return
    told.set(reason, now)
    const { uid, namespace, name } = pod
    const { events, logger } = this.#options
    logger.warn({ uid, pod: `${namespace}/${name}`, what: report.what }, message)
    events.warn(pod, reason, message)
  }

  /** The pod is gone: nothing is to be said of it any more. */
  forget(uid: string): void {
    this.#options.annotations.forget(uid)
    this.#posted.delete(uid)
    this.#told.delete(uid)
  }

  #complain(pod: PodName, error: Error): void {
    const { events, logger, onRefused } = this.#options
    if (this.#posted.get(pod.uid) === error.message) return
    this.#posted.set(pod.uid, error.message)
    const { uid, namespace, name } = pod
    logger.warn({ uid, pod: `${namespace}/${name}`, error }, 'the pod is not served')
    const advice = error instanceof AmbitError ? ` (${error.code}: ${error.hint})` : ''
    const message = `${error.message}. The pod stays outside the mesh, or cut off if it was in it before${advice}`
    events.warn(pod, 'EnrolmentFailed', message)
    onRefused?.(pod, error)
  }
}

function guestKernel({ namespace, name }: PodName): AmbitError {
  return new AmbitError(
    'AMB_ENROLMENT',
    `Cannot enrol pod ${namespace}/${name}: its containers run on a kernel of their own (Kata, gVisor, KubeVirt), whose sockets this node cannot see`,
  )
}
