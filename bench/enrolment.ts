// SPDX-License-Identifier: Apache-2.0
// Enrolment time of a running pod: from the label's acknowledgement by the API server to the agent's annotation, which it
// writes after capture is live. An upper bound of "label to captured". Milliseconds.

import { setTimeout as delay } from 'node:timers/promises'
import type { Lab } from '../lab/cluster/index.ts'
import { createLogger } from '../mesh/telemetry/log.ts'
import { PODS, watchResource } from '../mesh/kube/index.ts'
import { quantile } from './statistics.ts'

const ROUNDS = 40
/**
 * A pod that leaves stays captured until its peers know; a label that comes back sooner waits for that, which is not
 * what this measures.
 */
const LEAVING_IS_OVER_MS = 1_000
const POD = { namespace: 'plain', name: 'far' }
const ANNOTATION = 'ambient.istio.io/redirection'
const MODE_LABEL = 'istio.io/dataplane-mode'
const DEADLINE_MS = 10_000

/** Flips the label of one running pod and times the agent. */
export async function measureEnrolment(lab: Lab): Promise<Readonly<Record<string, number>>> {
  let wanted: { readonly isEnrolled: boolean; readonly seen: (at: number) => void } | undefined
  const pods = watchResource(lab.api, PODS, {
    namespace: POD.namespace,
    fieldSelector: `metadata.name=${POD.name}`,
    logger: createLogger('bench', 'warn'),
    updated: (_before, pod) => {
      const isEnrolled = pod.metadata?.annotations?.[ANNOTATION] === 'enabled'
      if (wanted?.isEnrolled === isEnrolled) wanted.seen(performance.now())
    },
  })
  await pods.synced
  const flip = async (isEnrolled: boolean): Promise<number> => {
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    const deadline = setTimeout(
      () => reject(new Error(`Cannot time enrolment: nothing after ${DEADLINE_MS} ms`)),
      DEADLINE_MS,
    )
    wanted = { isEnrolled, seen: resolve }
    const started = performance.now()
    const patched = await lab.api.patch(PODS, POD, {
      metadata: { labels: { [MODE_LABEL]: isEnrolled ? 'ambient' : null } },
    })
    if (!patched.ok) throw new Error(`Cannot label the pod: ${patched.error.message}`)
    const at = await promise
    clearTimeout(deadline)
    wanted = undefined
    return at - started
  }
  const enrol: number[] = []
  const withdraw: number[] = []
  for (let round = 0; round < ROUNDS; round += 1) {
    enrol.push(await flip(true))
    withdraw.push(await flip(false))
    await delay(LEAVING_IS_OVER_MS)
  }
  await pods.close()
  return {
    'enrol p50 ms': quantile(enrol, 0.5),
    'enrol p99 ms': quantile(enrol, 0.99),
    'withdraw p50 ms': quantile(withdraw, 0.5),
    'withdraw p99 ms': quantile(withdraw, 0.99),
  }
}
