// SPDX-License-Identifier: Apache-2.0
// Load that counts failures: new connections at a steady rate, and kept ones that ask again and again. Runs until its standard input
// ends, then prints one line of JSON; the first line says that it has begun. Usage: load.ts URL [NEW-PER-SECOND] [KEPT-CONNECTIONS]

import { Agent, get } from 'node:http'

const [url, rate = '20', kept = '4'] = process.argv.slice(2)
if (url === undefined) {
  console.error('usage: load.ts URL [NEW-PER-SECOND] [KEPT-CONNECTIONS]')
  process.exit(2)
}
/** For one answer. */
const DEADLINE_MS = 5000
const PAUSE_MS = 50
/** A failure that comes later than this after another one belongs to another event. */
const GAP_MS = 1000
const KEPT_FAILURES = 100
/** Whoever waits for the load to be there is told then. */
const FIRST_CALLS = 50

interface Failure {
  readonly atMs: number
  readonly what: string
}

const startedAt = performance.now()
let calls = 0
const failures: Failure[] = []
let isEnding = false

/** One call, counted. */
async function call(agent: Agent | false): Promise<void> {
  const { promise: ended, resolve } = Promise.withResolvers<string | undefined>()
  const request = get(url ?? '', { agent, signal: AbortSignal.timeout(DEADLINE_MS) })
  request.on('error', (error: NodeJS.ErrnoException) => {
    const name = error.code ?? error.message
    resolve(request.reusedSocket ? `reused ${name}` : name)
  })
  request.on('response', (response) => {
    response.resume()
    response.on('error', (error: NodeJS.ErrnoException) =>
      resolve(`body ${error.code ?? error.message}`),
    )
    response.on('end', () =>
      resolve(response.statusCode === 200 ? undefined : `status ${response.statusCode}`),
    )
  })
  const what = await ended
  calls += 1
  if (calls === FIRST_CALLS) console.log(`${calls} calls were made`)
  if (what !== undefined) failures.push({ atMs: Math.round(performance.now() - startedAt), what })
}

async function keepCalling(): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  while (!isEnding) {
    await call(agent)
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
  }
  agent.destroy()
}

/** From the first to the last of failures that belong together. */
function windows(): readonly { readonly fromMs: number; toMs: number; failed: number }[] {
  const found: { fromMs: number; toMs: number; failed: number }[] = []
  for (const { atMs } of failures) {
    const last = found.at(-1)
    if (last === undefined || atMs - last.toMs > GAP_MS)
      found.push({ fromMs: atMs, toMs: atMs, failed: 1 })
    else {
      last.toMs = atMs
      last.failed += 1
    }
  }
  return found
}

const pending = new Set<Promise<void>>()
const timer = setInterval(() => {
  const one = call(false).finally(() => pending.delete(one))
  pending.add(one)
}, 1000 / Number(rate))
const workers = Array.from({ length: Number(kept) }, keepCalling)
process.stdin.resume()
process.stdin.on('end', () => {
  isEnding = true
  clearInterval(timer)
  void Promise.all([...workers, ...pending]).then(() => {
    const counted: Record<string, number> = {}
    for (const { what } of failures) counted[what] = (counted[what] ?? 0) + 1
    console.log(
      JSON.stringify({
        calls,
        failed: failures.length,
        counted,
        windows: windows(),
        failures: failures.slice(0, KEPT_FAILURES),
      }),
    )
  })
})
