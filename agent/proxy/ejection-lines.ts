// SPDX-License-Identifier: Apache-2.0
// Tells of endpoints that a pod's connections are kept from, and of their recovery: a bounded number of lines, and every one
// for the metrics.

import type { Logger } from '../../mesh/telemetry/log.ts'
import { LogBudget } from '../../mesh/telemetry/log-budget.ts'
import type { LocalPod } from './local-pod.ts'
import type { EndpointPort } from '../../mesh/balance/ejections.ts'
import type { EjectionListener } from '../../mesh/balance/endpoint-experience.ts'

export type EjectionChange = 'ejected' | 'recovered'

/** An endpoint may fail and recover for whom it likes, as often as it likes. */
const LINES = { burst: 20, perSecond: 0.2 }

/** The listener of one pod. */
export function ejectionLines(
  pod: LocalPod,
  log: Logger,
  onChange: (change: EjectionChange) => void,
): EjectionListener {
  const budget = new LogBudget(LINES)
  const write = ({ endpoint, port }: EndpointPort, more: object, message: string): void => {
    const keptBack = budget.take()
    if (keptBack === undefined) return
    const kept = keptBack > 0 ? { lines_kept_back: keptBack } : {}
    const from = `${pod.namespace}/${pod.name}`
    log.info({ pod: from, endpoint, port, ...more, ...kept }, message)
  }
  return {
    ejected: (to, forMs, why) => {
      onChange('ejected')
      write(
        to,
        { for_ms: forMs, error: why },
        'an endpoint is ejected: connections go to others as long as it fails',
      )
    },
    recovered: (to) => {
      onChange('recovered')
      write(to, {}, 'an ejected endpoint has recovered')
    },
  }
}
