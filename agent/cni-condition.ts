// SPDX-License-Identifier: Apache-2.0
// Says on the agent's own pod whether new pods of the node are enrolled at their start, and if not, why: a wrong directory of CNI's is seen
// by the agent alone, and looked for by whoever installs.

import { CHAINED_CONDITION } from '../mesh/model/names.ts'
import { OwnCondition, type OwnConditionOptions } from './own-condition.ts'

export class CniCondition extends OwnCondition {
  constructor(options: OwnConditionOptions) {
    super(options, CHAINED_CONDITION, 'does not tell of CNI')
  }

  /** Undefined: they are enrolled at their start. */
  tell(problem: string | undefined): void {
    this.say(() =>
      problem === undefined
        ? { status: 'True', reason: 'Chained', message: '' }
        : { status: 'False', reason: 'NotChained', message: problem },
    )
  }
}
