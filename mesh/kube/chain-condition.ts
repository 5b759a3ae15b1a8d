// SPDX-License-Identifier: Apache-2.0
// What an agent says of CNI on its own pod.

import { CHAINED_CONDITION } from '../model/names.ts'
import type { Pod } from './resources.ts'

type Conditions = NonNullable<Pod['status']>['conditions']

/** Why new pods of the agent's node start without the CNI plugin; undefined where they do not, or nothing is said. */
export function chainProblem(conditions: Conditions): string | undefined {
  const condition = conditions?.find(({ type }) => type === CHAINED_CONDITION)
  return condition?.status === 'False'
    ? (condition.message ?? 'new pods are not enrolled at their start')
    : undefined
}
