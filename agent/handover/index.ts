// SPDX-License-Identifier: Apache-2.0
export { meetPredecessor, type Predecessor } from './predecessor.ts'
export { Succession } from './succession.ts'
