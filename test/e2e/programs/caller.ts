// SPDX-License-Identifier: Apache-2.0
// Runs inside a pod: makes a new connection every few milliseconds, one HTTP GET on each, and prints one line of JSON
// for each as it ends. Usage: caller.ts URL MARKER [INTERVAL_MS]. Ends on SIGTERM.

import { Agent, get } from 'node:http'

const [url, marker = '', interval = '25'] = process.argv.slice(2)
if (url === undefined) throw new Error('usage: caller.ts URL MARKER [INTERVAL_MS]')

/** A call that takes longer than this counts as failed: longer than a busy machine needs for one, and than whoever refuses it. Milliseconds. */
const DEADLINE_MS = 10_000
// No keep-alive: each call is a connection of its own.
const agent = new Agent({ keepAlive: false })

function call(target: string): void {
  const startedAt = Date.now()
  const done = (error: string | undefined): void => {
    const line = { startedAt, endedAt: Date.now(), ...(error === undefined ? {} : { error }) }
    process.stdout.write(`${JSON.stringify(line)}\n`)
  }
  const request = get(target, {
    agent,
    headers: { 'x-marker': marker },
    signal: AbortSignal.timeout(DEADLINE_MS),
  })
  request.once('error', (error: NodeJS.ErrnoException) => done(error.code ?? error.message))
  request.once('response', (response) => {
    response.resume()
    response.once('end', () =>
      done(response.statusCode === 200 ? undefined : `HTTP ${response.statusCode ?? 0}`),
    )
    response.once('error', (error: NodeJS.ErrnoException) => done(error.code ?? error.message))
  })
}

setInterval(call, Number(interval), url)
call(url)
