// SPDX-License-Identifier: Apache-2.0
// How long it takes to enrol a running pod: 250 namespaces, each enrolled once, all kept enrolled. Prints JSON.

import type { CapturePod } from '../agent/capture/index.ts'
import type { Failure } from '../test/capture/support/agent-process.ts'
import { World } from '../test/capture/support/world.ts'

const PODS = 250

const world = new World({ teardown: () => undefined })
try {
  const pods: CapturePod[] = []
  for (let index = 0; index < PODS; index += 1) pods.push(world.emptyPod(index))
  const agent = await world.openAgent()
  const times = await agent.process.ask<readonly number[] | Failure>('enrolAll', pods)
  if ('code' in times) throw new Error(times.message)
  const sorted = times.toSorted((a, b) => a - b)
  const at = (share: number): number => Number(sorted[Math.floor(PODS * share)]?.toFixed(3))
  console.log(
    JSON.stringify({
      what: 'enrol a running pod',
      pods: PODS,
      p50Ms: at(0.5),
      p99Ms: at(0.99),
      maxMs: at(1 - 1 / PODS),
    }),
  )
} finally {
  await world.destroy()
}
