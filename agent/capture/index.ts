// SPDX-License-Identifier: Apache-2.0
// What the rest of the agent uses of capture.

export { type CaptureCounters, type CaptureReason, CAPTURE_REASONS } from './counters.ts'
export type { CaptureStats, NodeCapture } from './capture.ts'
export { createDataPlaneSockets } from './data-plane-sockets.ts'
export { type CaptureOptions, openCapture } from './open.ts'
export type {
  Capture,
  CapturePod,
  DataPlaneHandles,
  DataPlaneSockets,
  Enrolment,
  PodListeners,
} from './types.ts'
