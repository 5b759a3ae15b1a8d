// SPDX-License-Identifier: Apache-2.0
// The lines of a pod's log, through the API server, as `kubectl logs` has them.

import { createInterface } from 'node:readline'
import { PODS, resourcePath } from '../../mesh/kube/index.ts'
import { openExchange } from '../../mesh/kube/transport.ts'
import type { ClusterTarget } from './target.ts'
import { kubeError } from './kube-reads.ts'

export interface LogOptions {
  readonly follow: boolean
  readonly tail?: number
  readonly sinceSeconds?: number
  readonly signal: AbortSignal
}

const DEADLINE_MS = 30_000

/** Calls back with each line, to the log's end or, following it, until `signal` aborts. Throws AMB_KUBE_API when there is none. */
export async function podLog(
  target: ClusterTarget,
  { pod, namespace }: { readonly pod: string; readonly namespace: string },
  { follow, tail, sinceSeconds, signal }: LogOptions,
  onLine: (line: string) => void,
): Promise<void> {
  const query = new URLSearchParams()
  if (follow) query.set('follow', 'true')
  if (tail !== undefined) query.set('tailLines', String(tail))
  if (sinceSeconds !== undefined) query.set('sinceSeconds', String(sinceSeconds))
  const path = resourcePath(PODS, { namespace, name: pod, subresource: 'log' })
  const opened = await openExchange(target.api.access, {
    method: 'GET',
    path: `${path}?${query.toString()}`,
    call: `read the log of pod ${namespace}/${pod}`,
    signal,
    deadlineMs: DEADLINE_MS,
  })
  if (!opened.ok) throw kubeError(opened.error)
  try {
    for await (const line of createInterface({ input: opened.value })) onLine(line)
  } catch (thrown) {
    if (!signal.aborted) throw thrown
  }
}
