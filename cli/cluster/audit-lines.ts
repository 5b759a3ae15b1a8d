// SPDX-License-Identifier: Apache-2.0
// The lines of a component's audit, from its admin port, as long as it has some or, following it, until told to end.

import http from 'node:http'
import { createInterface } from 'node:readline'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import { ADMIN_PORT } from './admin.ts'
import type { ClusterTarget } from './target.ts'

export interface AuditLinesOptions {
  readonly pod: string
  readonly namespace: string | undefined
  readonly sinceSeconds: number | undefined
  readonly follow: boolean
  readonly signal: AbortSignal
}

/** For the answer to begin; what follows takes its time. */
const ANSWER_DEADLINE_MS = 15_000

/** Calls back with each line. Throws AMB_AGENT_UNREACHABLE when the component cannot be asked, or goes away while it is followed. */
export async function auditLines(
  target: ClusterTarget,
  { pod, namespace, sinceSeconds, follow, signal }: AuditLinesOptions,
  onLine: (line: string) => void,
): Promise<void> {
  const query = new URLSearchParams()
  if (namespace !== undefined) query.set('namespace', namespace)
  if (sinceSeconds !== undefined)
    query.set('since', new Date(Date.now() - sinceSeconds * 1_000).toISOString())
  if (follow) query.set('follow', 'true')
  const connected = await target.connect({
    namespace: target.systemNamespace,
    pod,
    port: ADMIN_PORT,
  })
  if (!connected.ok) throw failed(pod, connected.error)
  const connection = connected.value
  const end = (): void => void connection.destroy()
  signal.addEventListener('abort', end, { once: true })
  const late = setTimeout(end, ANSWER_DEADLINE_MS)
  try {
    const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
      const request = http.get({
        path: `/audit?${query.toString()}`,
        headers: { host: `localhost:${ADMIN_PORT}`, connection: 'close' },
        createConnection: () => connection,
      })
      request.once('response', resolve)
      request.once('error', reject)
    })
    clearTimeout(late)
    if (response.statusCode !== 200)
      throw new Error(`it answers with status ${response.statusCode ?? 0}`)
    for await (const line of createInterface({ input: response })) onLine(line)
  } catch (thrown) {
    if (!signal.aborted) throw failed(pod, errorMessage(thrown))
  } finally {
    clearTimeout(late)
    signal.removeEventListener('abort', end)
    connection.destroy()
  }
}

function failed(pod: string, reason: string): AmbitError {
  return new AmbitError('AMB_AGENT_UNREACHABLE', `Cannot read the audit of ${pod}: ${reason}`)
}
