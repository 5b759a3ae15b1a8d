// SPDX-License-Identifier: Apache-2.0
// A client that is itself rolled out: calls from its first moment on, by new connections and by kept ones, and told to end makes no further call,
// awaits those under way and leaves a report. Usage: rolled-caller.ts URL DIRECTORY; the report is DIRECTORY/HOSTNAME.json.

import { writeFileSync } from 'node:fs'
import { Agent, get } from 'node:http'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

/** What is left. */
export interface CallerReport {
  readonly calls: number
  readonly failures: readonly string[]
}

const [url = '', directory = ''] = process.argv.slice(2)
/** For one answer: on a busy machine only a fault is ever that slow. */
const DEADLINE_MS = 20_000
const PAUSE_MS = 30
/** Callers of each kind. */
const EACH = 2

let isEnding = false
let calls = 0
const failures: string[] = []
process.on('SIGTERM', () => {
  isEnding = true
})

async function call(agent: Agent | false): Promise<void> {
  const ended = Promise.withResolvers<string | undefined>()
  const request = get(url, { agent, signal: AbortSignal.timeout(DEADLINE_MS) })
  request.on('error', (error: NodeJS.ErrnoException) => {
    ended.resolve(`${request.reusedSocket ? 'reused ' : ''}${error.code ?? error.message}`)
  })
  request.on('response', (response) => {
    response.resume()
    response.on('error', (error) => ended.resolve(`body ${error.message}`))
    response.on('end', () =>
      ended.resolve(response.statusCode === 200 ? undefined : `status ${response.statusCode}`),
    )
  })
  const what = await ended.promise
  calls += 1
  if (what !== undefined) failures.push(`${new Date().toISOString()} ${what}`)
}

async function keepCalling(agent: Agent | false): Promise<void> {
  while (!isEnding) {
    await call(agent)
    await pause(PAUSE_MS)
  }
  if (agent !== false) agent.destroy()
}

await Promise.all(
  Array.from({ length: EACH }, () => [
    keepCalling(false),
    keepCalling(new Agent({ keepAlive: true, maxSockets: 1 })),
  ]).flat(),
)
writeFileSync(join(directory, `${hostname()}.json`), JSON.stringify({ calls, failures }))
