// SPDX-License-Identifier: Apache-2.0
// Enrolment: which pods of this node are in the mesh, and getting them there. startEnrolment() returns the
// handlers for the CNI server (agent/cni) and tells the data plane through an EnrolmentListener.

export { startEnrolment } from './enrolment.ts'
export type { EnrolmentOptions, NodeEnrolment } from './enrolment.ts'
export { DEFAULT_ELIGIBILITY } from './eligibility.ts'
export type { EnrolledPod, EnrolmentListener } from './types.ts'
