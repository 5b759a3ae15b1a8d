// SPDX-License-Identifier: Apache-2.0
// Load that counts failures: new connections at a steady rate, and kept ones that ask again and again. Runs until its standard input
// ends, then prints one line of JSON; the first line says that it has begun. A line NAME on its input is answered by "done NAME" once there
// were so many calls more of each kind. With a HEADER each of its values is printed as "HEADER VALUE" when an answer has it for the first time.
// Usage: load.ts URL [NEW-PER-SECOND] [KEPT-CONNECTIONS] [HEADER]

import type { Agent } from 'node:http'
import { createInterface } from 'node:readline'
import { http } from '../../mesh/node-http.ts'

const [url, rate = '20', kept = '4', header] = process.argv.slice(2)
if (url === undefined) {
  console.error('usage: load.ts URL [NEW-PER-SECOND] [KEPT-CONNECTIONS] [HEADER]')
  process.exit(2)
}
/** For one answer: on a busy machine only a fault is ever that slow. */
const DEADLINE_MS = 20_000
const PAUSE_MS = 50
/** A failure that comes later than this after another one belongs to another event. */
const GAP_MS = 1000
const KEPT_FAILURES = 100
/** Whoever waits for the load to be there is told then. */
const FIRST_CALLS = 50
/** Of each kept connection, and of new ones: so many calls make a phase. */
const PHASE_CALLS = 10

interface Failure {
  readonly atMs: number
  readonly what: string
}

/** Failures that belong together, from the first to the last. */
interface Window {
  readonly fromMs: number
  toMs: number
  failed: number
}

/** What is printed at the end. */
export interface LoadReport {
  readonly calls: number
  readonly failed: number
  readonly counted: Readonly<Record<string, number>>
  readonly windows: readonly Readonly<Window>[]
  /** The first of them. */
  readonly failures: readonly Failure[]
}

const startedAt = performance.now()
let calls = 0
const failures: Failure[] = []
let isEnding = false
/** Calls that have ended, by who made them. */
const ended = new Map<string, number>()
const seen = new Set<string>()
/** Those who wait for a phase to be over. */
const phases = new Set<() => void>()

/** One call, counted. */
async function call(agent: Agent | false, who: string): Promise<void> {
  const { promise: end, resolve } = Promise.withResolvers<string | undefined>()
  const request = http.get(url ?? '', { agent, signal: AbortSignal.timeout(DEADLINE_MS) })
  request.on('error', (error: NodeJS.ErrnoException) => {
    const name = error.code ?? error.message
    resolve(request.reusedSocket ? `reused ${name}` : name)
  })
  request.on('response', (response) => {
    response.resume()
    noteHeader(response.headers[header ?? ''])
    response.on('error', (error: NodeJS.ErrnoException) =>
      resolve(`body ${error.code ?? error.message}`),
    )
    response.on('end', () =>
      resolve(response.statusCode === 200 ? undefined : `status ${response.statusCode}`),
    )
  })
  const what = await end
  calls += 1
  ended.set(who, (ended.get(who) ?? 0) + 1)
  if (calls === FIRST_CALLS) console.log(`${calls} calls were made`)
  if (what !== undefined) failures.push({ atMs: Math.round(performance.now() - startedAt), what })
  for (const look of phases) look()
}

function noteHeader(value: string | readonly string[] | undefined): void {
  if (typeof value !== 'string' || seen.has(value)) return
  seen.add(value)
  console.log(`${header} ${value}`)
}

/** Says so once everybody has made as many calls more. */
function awaitPhase(name: string): void {
  const goals = [...ended].map(([who, count]) => [who, count + PHASE_CALLS] as const)
  const look = (): void => {
    if (goals.some(([who, goal]) => (ended.get(who) ?? 0) < goal)) return
    phases.delete(look)
    console.log(`done ${name}`)
  }
  phases.add(look)
}

async function keepCalling(who: string): Promise<void> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  while (!isEnding) {
    await call(agent, who)
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
  }
  agent.destroy()
}

function windows(): readonly Window[] {
  const found: Window[] = []
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

const NEW = 'new'
const pending = new Set<Promise<void>>()
const timer = setInterval(() => {
  const one = call(false, NEW).finally(() => pending.delete(one))
  pending.add(one)
}, 1000 / Number(rate))
const workers = Array.from({ length: Number(kept) }, (_, index) => keepCalling(`kept ${index}`))
const commands = createInterface({ input: process.stdin })
commands.on('line', awaitPhase)
commands.on('close', () => {
  isEnding = true
  clearInterval(timer)
  void Promise.all([...workers, ...pending]).then(() => {
    const counted: Record<string, number> = {}
    for (const { what } of failures) counted[what] = (counted[what] ?? 0) + 1
    const report: LoadReport = {
      calls,
      failed: failures.length,
      counted,
      windows: windows(),
      failures: failures.slice(0, KEPT_FAILURES),
    }
    console.log(JSON.stringify(report))
  })
})
