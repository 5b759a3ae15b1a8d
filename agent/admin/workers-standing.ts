// SPDX-License-Identifier: Apache-2.0
// How the agent stands, for the kubelet's probes: what is missing of its start, and the workers that do not answer.

import type { Standing } from '../../mesh/program/proxy-servers.ts'
import type { Readiness } from '../../mesh/program/readiness.ts'

/** How long the workers may take to answer a readiness probe; the kubelet's own time-out is one second by default. */
const WORKER_ANSWER_MS = 500

/** How the data plane does. */
export interface WorkersHealth {
  /** The workers that do not answer within the time. */
  unresponsive(timeoutMs: number): Promise<readonly number[]>
  /** Those that hang and cannot be ended. */
  readonly unkillable: readonly number[]
}

/**
 * Asks the workers each time; a worker that hangs and cannot be ended is the fault. Beside a successor of which only a probe tells it is not
 * ready: the kubelet asks for that one by the same address, and must not be told so before it is.
 */
export function standingOf(
  readiness: Readiness,
  workers: WorkersHealth,
  successor: () => string | undefined = () => undefined,
): Standing {
  let asking: Promise<readonly number[]> | undefined
  // Who asks while the workers are being asked shares their answer: a crowd costs no more than one.
  const askOnce = (): Promise<readonly number[]> =>
    (asking ??= workers.unresponsive(WORKER_ANSWER_MS).finally(() => {
      asking = undefined
    }))
  return {
    fault: () => {
      const hung = workers.unkillable
      return hung.length === 0 ? undefined : `data-plane workers hang: ${hung.join(', ')}`
    },
    missing: async () => {
      const stuck = await askOnce()
      const next = successor()
      return [
        ...readiness.pending(),
        ...stuck.map((index) => `data-plane worker ${index}`),
        ...(next === undefined ? [] : [`its successor ${next}`]),
      ]
    },
  }
}
