// SPDX-License-Identifier: Apache-2.0
// Runs all checks over the objects of a cluster. Pure.

import { CHECKS } from './checks/index.ts'
import type { FindingCode } from './catalogue.ts'
import { type Finding, inOrder } from './finding.ts'
import type { AnalysedKind, Objects } from './objects.ts'
import { worldOf, type WorldOptions } from './world.ts'

export interface NotChecked {
  readonly codes: readonly FindingCode[]
  /** Kinds that could not be read, or not everywhere. */
  readonly kinds: readonly AnalysedKind[]
}

export interface Analysis {
  readonly findings: readonly Finding[]
  /** What could not be checked, or only in part. */
  readonly notChecked: readonly NotChecked[]
}

/** Analyses them; takes time in proportion to their number. */
export function analyze(objects: Objects, options: WorldOptions): Analysis {
  const world = worldOf(objects, options)
  return {
    findings: inOrder(CHECKS.flatMap((check) => [...check.run(world)])),
    notChecked: CHECKS.flatMap(({ codes, needs }) => {
      const kinds = needs.filter((kind) => !objects.knows(kind))
      return kinds.length === 0 ? [] : [{ codes, kinds }]
    }),
  }
}
