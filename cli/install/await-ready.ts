// SPDX-License-Identifier: Apache-2.0
// Waits until all agents and controllers are ready, saying how far it is whenever that changes.

import { setTimeout as pause } from 'node:timers/promises'
import { AmbitError } from '../../mesh/errors.ts'
import type { KubeApi } from '../../mesh/kube/index.ts'
import { type MeshProgress, meshProgress } from './readiness.ts'

export interface WaitOptions {
  readonly namespace: string
  readonly timeoutMs: number
  readonly report: (line: string) => void
  readonly signal?: AbortSignal | undefined
  /** Whether to give up as soon as a node is found unfit. Not where the agents were there before: they may be about to be replaced. */
  readonly areAgentsNew?: boolean
}

/** Between two looks: readiness of several objects and their pods is no one event. */
const POLL_MS = 500

/** Resolves once they are. Throws AMB_INSTALL at the end of the time or where a node is unfit, with the pods that hang and why. */
export async function awaitReady(api: KubeApi, options: WaitOptions): Promise<void> {
  const { namespace, timeoutMs, report, signal } = options
  const deadline = performance.now() + timeoutMs
  let told = ''
  for (;;) {
    signal?.throwIfAborted()
    const progress = await meshProgress(api, namespace)
    const line = lineOf(progress)
    if (line !== told) report(line)
    told = line
    if (progress.isReady) return
    if (options.areAgentsNew === true && progress.unfit.length > 0)
      throw new AmbitError('AMB_INSTALL', `Not every node fits: ${progress.unfit.join('; ')}`)
    if (performance.now() > deadline) {
      const why = progress.hanging.length === 0 ? line : progress.hanging.join('; ')
      throw new AmbitError(
        'AMB_INSTALL',
        `The mesh is not ready after ${Math.round(timeoutMs / 1000)} s: ${why}`,
      )
    }
    await pause(POLL_MS, undefined, { ...(signal === undefined ? {} : { signal }) })
  }
}

function lineOf({ workloads }: MeshProgress): string {
  return workloads
    .map(
      ({ title, ready, wanted, isCurrent }) =>
        `${title} ${ready}/${wanted} ready${isCurrent ? '' : ', updating'}`,
    )
    .join('; ')
}
