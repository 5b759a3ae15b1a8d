// SPDX-License-Identifier: Apache-2.0
// Enrolment: which pods of this node are in the mesh, and getting them there. startEnrolment() returns the
// handlers for the CNI server (agent/cni) and tells the data plane by PodServer.

export { startEnrolment } from './node-enrolment.ts'
export type { EnrolmentOptions, NodeEnrolment } from './node-enrolment.ts'
export { type EventTarget, PodEvents, podWarning } from './pod-events.ts'
export { eligibilityOf } from './eligibility.ts'
export type { PodStanding } from './pod-standing.ts'
export type { EnrolledPod, PodServer, ServedPod } from './types.ts'
export { netnsProver } from './prove-netns.ts'
export { removePodStates } from './state-files.ts'
