// SPDX-License-Identifier: Apache-2.0
// What enrolment needs of the data plane. The order in which a pod is served, drained, let go is in the types: who
// has no ServedPod can ask for none of it, and gets one only from serve().

import type { Enrolment } from '../capture/types.ts'

/** A pod by its names. */
export interface PodName {
  readonly uid: string
  readonly namespace: string
  readonly name: string
  readonly serviceAccount: string
}

/** A pod whose connections are captured from now on. */
export interface EnrolledPod extends PodName {
  readonly enrolment: Enrolment
}

/** The data plane. */
export interface PodServer {
  /**
   * Serves a pod. The listeners' fds are the data plane's from the call on, also when it rejects; nothing of the pod is
   * left in it then. `listenersLost` is called whenever who serves the pod is no more and somebody else could: the
   * pod's connections are refused until serveAgain().
   */
  serve(pod: EnrolledPod, listenersLost: () => void): Promise<ServedPod>
}

/** A pod that the data plane serves, until end(). */
export interface ServedPod {
  /**
   * Goes on with fresh listeners, whose fds are the data plane's from the call on, in place of those before: only HBONE's
   * for a pod that has left the mesh. After a rejection it may be tried again.
   */
  serveAgain(enrolment: Enrolment): Promise<void>
  /**
   * The pod is being deleted (deletionTimestamp is set) but still runs and is still captured: its peers are to send
   * nothing new over the connections they have into it. Whoever calls it is served all the same, and so are its own calls.
   */
  drain(): void
  /**
   * Nothing new comes any more; established connections may go on as long as the data plane lets them: those of a pod
   * that lives on have done nothing to be cut for. Resolves when none is left.
   */
  end(how: { readonly livesOn: boolean }): Promise<void>
}

/** How a pod stands after a look at it. */
export type EnrolmentOutcome =
  | { readonly kind: 'enrolled' }
  /** Not to be enrolled, and not enrolled. */
  | { readonly kind: 'plain'; readonly reason: string }
  /** To be enrolled as soon as something is known that is not yet. */
  | { readonly kind: 'waiting'; readonly reason: string }
  | { readonly kind: 'failed'; readonly error: Error }
