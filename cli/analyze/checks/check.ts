// SPDX-License-Identifier: Apache-2.0
// What a check is: it looks at the whole world once, and says what is certainly wrong.

import type { FindingCode } from '../catalogue.ts'
import type { Finding } from '../finding.ts'
import type { AnalysedKind } from '../objects.ts'
import type { World } from '../world.ts'

export interface Check {
  readonly codes: readonly FindingCode[]
  /** Kinds without which it can say nothing: who may not read one is told that this was not checked. */
  readonly needs: readonly AnalysedKind[]
  /** Takes time in proportion to what there is, not to its square. */
  readonly run: (world: World) => Iterable<Finding>
}
