// SPDX-License-Identifier: Apache-2.0
export type { IdentifiedPod } from './channel.ts'
export { meetPredecessor, type Predecessor } from './predecessor.ts'
export { Succession } from './succession.ts'
