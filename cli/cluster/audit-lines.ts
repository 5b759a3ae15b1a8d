// SPDX-License-Identifier: Apache-2.0
// The lines of a component's audit, from its admin port, as long as it has some or, following it, until told to end.

import { createInterface } from 'node:readline'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import { openAdmin } from './admin.ts'
import type { ClusterTarget } from './target.ts'

export interface AuditLinesOptions {
  readonly pod: string
  /** The pod's own; that of the mesh itself when undefined. */
  readonly podNamespace?: string | undefined
  readonly namespace: string | undefined
  readonly sinceSeconds: number | undefined
  readonly follow: boolean
  readonly signal: AbortSignal
}

/** Calls back with each line. Throws AMB_AGENT_UNREACHABLE when the component cannot be asked, or goes away while it is followed. */
export async function auditLines(
  target: ClusterTarget,
  { pod, podNamespace, namespace, sinceSeconds, follow, signal }: AuditLinesOptions,
  onLine: (line: string) => void,
): Promise<void> {
  const query = new URLSearchParams()
  if (namespace !== undefined) query.set('namespace', namespace)
  if (sinceSeconds !== undefined)
    query.set('since', new Date(Date.now() - sinceSeconds * 1_000).toISOString())
  if (follow) query.set('follow', 'true')
  const opened = await openAdmin(
    target,
    {
      pod,
      ...(podNamespace !== undefined && { namespace: podNamespace }),
      path: `/audit?${query.toString()}`,
    },
    signal,
  )
  if (!opened.ok) {
    if (signal.aborted) return
    throw failed(pod, opened.error)
  }
  const { status, body, close } = opened.value
  try {
    if (status !== 200) throw new Error(`it answers with status ${status}`)
    for await (const line of createInterface({ input: body })) onLine(line)
  } catch (thrown) {
    if (!signal.aborted) throw failed(pod, errorMessage(thrown))
  } finally {
    close()
  }
}

function failed(pod: string, reason: string): AmbitError {
  return new AmbitError('AMB_AGENT_UNREACHABLE', `Cannot read the audit of ${pod}: ${reason}`)
}
