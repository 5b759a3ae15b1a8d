// SPDX-License-Identifier: Apache-2.0
// Waits until all agents and controllers are ready, saying how far it is whenever that changes.

import { setTimeout as pause } from 'node:timers/promises'
import { AmbitError } from '../../mesh/errors.ts'
import type { KubeApi } from '../../mesh/kube/index.ts'
import { type MeshProgress, meshProgress, NOWHERE } from './readiness.ts'
import { refusedPods } from './refused-pods.ts'

export interface WaitOptions {
  readonly namespace: string
  /** How long it may take until one more of them is ready: a large cluster is updated node by node. */
  readonly timeoutMs: number
  readonly report: (line: string) => void
  readonly signal?: AbortSignal | undefined
  /** Whether to give up as soon as a node is found unfit. Not where the agents were there before: they may be about to be replaced. */
  readonly areAgentsNew?: boolean
  /** Milliseconds of a clock that only goes forward; tests pass their own. */
  readonly now?: () => number
}

/** Between two looks: readiness of several objects and their pods is no one event. */
const POLL_MS = 500

/** How long agents that are ready may take to say how CNI stands on their nodes: they know it a moment later. */
const TOLD_MS = 10_000

/** Resolves once they are, having said where new pods start without the CNI plugin. Throws AMB_INSTALL when there is no progress for that time or where a node is unfit, with the pods that hang and why. */
export async function awaitReady(api: KubeApi, options: WaitOptions): Promise<void> {
  const { namespace, timeoutMs, report, signal, now = () => performance.now() } = options
  let deadline = now() + timeoutMs
  let most = 0
  let told = ''
  let toldBy = Number.NaN
  for (;;) {
    signal?.throwIfAborted()
    const progress = await meshProgress(api, namespace)
    const line = lineOf(progress)
    if (line !== told) report(line)
    told = line
    if (progress.isReady) {
      if (Number.isNaN(toldBy)) toldBy = now() + TOLD_MS
      if (progress.untold === 0 || now() > toldBy) {
        for (const problem of progress.unchained) report(`warning: ${problem}`)
        for (const node of progress.off)
          report(`warning: node ${node} is not ready: its agent comes when the node does`)
        for (const { title, wanted } of progress.workloads)
          if (wanted === 0) report(`warning: ${title}: ${NOWHERE}`)
        return
      }
      await pause(POLL_MS, undefined, { ...(signal === undefined ? {} : { signal }) })
      continue
    }
    toldBy = Number.NaN
    const current = progress.workloads.reduce((all, workload) => all + workload.current, 0)
    // More than ever before: what comes and goes is no progress.
    if (current > most) deadline = now() + timeoutMs
    most = Math.max(most, current)
    if (options.areAgentsNew === true && progress.unfit.length > 0)
      throw new AmbitError('AMB_INSTALL', `Not every node fits: ${progress.unfit.join('; ')}`)
    if (now() > deadline) {
      const reasons = [...(await refusedPods(api, namespace)), ...progress.hanging]
      const why = reasons.length === 0 ? line : reasons.join('; ')
      throw new AmbitError(
        'AMB_INSTALL',
        `The mesh is not ready, and nothing more has become so for ${Math.round(timeoutMs / 1000)} s: ${why}`,
      )
    }
    await pause(POLL_MS, undefined, { ...(signal === undefined ? {} : { signal }) })
  }
}

function lineOf({ workloads }: MeshProgress): string {
  return workloads
    .map(
      ({ title, ready, wanted, current, isCurrent }) =>
        `${title} ${ready}/${wanted} ready${isCurrent ? '' : `, updating: ${current} of ${wanted}`}`,
    )
    .join('; ')
}
