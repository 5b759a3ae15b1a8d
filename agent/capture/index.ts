// SPDX-License-Identifier: Apache-2.0
// What the rest of the agent uses of capture.

export type { NodeCapture } from './capture.ts'
export { checkMachine } from './machine.ts'
export { openCapture } from './open.ts'
export type {
  CapturePod,
  DataPlaneHandles,
  DataPlaneSockets,
  Enrolment,
} from './types.ts'
