// SPDX-License-Identifier: Apache-2.0
// What enrolment tells the data plane.

import type { Enrolment } from '../capture/types.ts'

/** A pod whose connections are captured from now on. The receiver owns the listeners' fds. */
export interface EnrolledPod {
  readonly enrolment: Enrolment
  readonly uid: string
  readonly namespace: string
  readonly name: string
  readonly serviceAccount: string
}

/** A pod that leaves the mesh and lives on. */
export type LeavingPod = Pick<EnrolledPod, 'uid' | 'namespace' | 'name'>

/** Told in order for each pod: enrolled, perhaps draining or leaving, withdrawn. */
export interface EnrolmentListener {
  /** Capture is live. When this throws or rejects the pod is withdrawn again. */
  onEnrolled(pod: EnrolledPod): void | Promise<void>
  /** The pod is being deleted (deletionTimestamp is set) but still runs and is still captured. */
  onDraining(uid: string): void
  /**
   * The pod lives on and is to leave the mesh: its peers are being told by its annotation, and what still comes is
   * still served. The pod is withdrawn when the promise settles.
   */
  onLeaving?(pod: LeavingPod): Promise<void>
  /**
   * Capture has ended; established connections may go on as long as the data plane lets them: those of a pod that
   * lives on have done nothing to be cut for. A promise that it returns resolves when none is left.
   */
  onWithdrawn(uid: string, how: { readonly livesOn: boolean }): void | Promise<void>
}

/** How a pod stands after a look at it. */
export type EnrolmentOutcome =
  | { readonly kind: 'enrolled' }
  /** Not to be enrolled, and not enrolled. */
  | { readonly kind: 'plain'; readonly reason: string }
  /** To be enrolled as soon as something is known that is not yet. */
  | { readonly kind: 'waiting'; readonly reason: string }
  | { readonly kind: 'failed'; readonly error: Error }
