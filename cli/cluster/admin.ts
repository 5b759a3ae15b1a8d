// SPDX-License-Identifier: Apache-2.0
// Asks the admin API of a component: one request, its whole answer.

import http from 'node:http'
import { errorMessage } from '../../mesh/errors.ts'
import { parseJson } from '../../mesh/json.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import type { ClusterTarget } from './target.ts'

export interface AdminRequest {
  readonly pod: string
  readonly path: string
  readonly method?: 'GET' | 'POST'
  readonly deadlineMs?: number
}

/** On the node's loopback (agents), and on the pod's (controllers). */
export const ADMIN_PORT = 15_000
const DEADLINE_MS = 15_000
/** 100,000 workloads are some 100 MB. */
const LARGEST_BODY_BYTES = 512 * 1024 * 1024

/** The JSON of the answer; the error is for people. */
export async function askAdmin(
  target: ClusterTarget,
  { pod, path, method = 'GET', deadlineMs = DEADLINE_MS }: AdminRequest,
): Promise<Result<unknown, string>> {
  const namespace = target.systemNamespace
  try {
    const connected = await target.connect({ namespace, pod, port: ADMIN_PORT })
    if (!connected.ok) return connected
    const answer = await new Promise<{ readonly status: number; readonly body: string }>(
      (resolve, reject) => {
        const request = http.request(
          {
            method,
            path,
            headers: { host: `localhost:${ADMIN_PORT}`, connection: 'close' },
            createConnection: () => connected.value,
            signal: AbortSignal.timeout(deadlineMs),
          },
          (response) => {
            const chunks: Buffer[] = []
            let size = 0
            response.on('data', (chunk: Buffer) => {
              size += chunk.length
              if (size > LARGEST_BODY_BYTES) response.destroy(new Error('the answer is too large'))
              else chunks.push(chunk)
            })
            response.on('end', () =>
              resolve({
                status: response.statusCode ?? 0,
                body: Buffer.concat(chunks).toString('utf8'),
              }),
            )
            response.on('error', reject)
          },
        )
        request.on('error', reject)
        request.end()
      },
    )
    connected.value.destroy()
    const body = parseJson(answer.body)
    if (answer.status !== 200) return err(refusalOf(answer.status, body))
    return body
  } catch (thrown) {
    const isLate = thrown instanceof Error && thrown.name === 'TimeoutError'
    return err(isLate ? `no answer within ${deadlineMs / 1000} s` : errorMessage(thrown))
  }
}

function refusalOf(status: number, body: Result<unknown, string>): string {
  const said =
    body.ok && typeof body.value === 'object' && body.value !== null && 'error' in body.value
      ? String(body.value.error)
      : ''
  return said === '' ? `it answers with status ${status}` : said
}

/** As askAdmin, for what is not to be read: what was done is done. */
export async function tellAdmin(
  target: ClusterTarget,
  request: AdminRequest,
): Promise<Result<unknown, string>> {
  const told = await askAdmin(target, { ...request, method: 'POST' })
  return told.ok ? ok(told.value) : told
}
