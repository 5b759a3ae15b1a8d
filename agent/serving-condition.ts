// SPDX-License-Identifier: Apache-2.0
// Says on the agent's own pod that this agent has its node. The pod asks for it (a readiness gate): it shares the node's address with the pod of
// the agent before it, so that a probe of either is answered by whoever has the ports, and only the condition tells the one from the other.

import type { Pod } from '../mesh/kube/index.ts'
import { SERVING_CONDITION } from '../mesh/model/names.ts'
import { OwnCondition, type OwnConditionOptions } from './own-condition.ts'

/** Whether the pod is ready only once its agent says so. */
export const asksToBeTold = ({ spec }: Pod): boolean =>
  spec?.readinessGates?.some(({ conditionType }) => conditionType === SERVING_CONDITION) === true

export class ServingCondition extends OwnCondition {
  /** Begins to say so, in the background, until the API server knows. */
  constructor(options: OwnConditionOptions) {
    super(options, SERVING_CONDITION, 'is not ready')
    this.say((pod) => (asksToBeTold(pod) ? { status: 'True' } : undefined))
  }
}
