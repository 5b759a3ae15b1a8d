// SPDX-License-Identifier: Apache-2.0
// Traffic of a pod for tests of faults: a stream of new connections to one URL, and what came of each.

import type { Test } from 'tap'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Lab } from '../../../lab/cluster/index.ts'

export interface Call {
  readonly startedAt: number
  readonly endedAt: number
  readonly error?: string
}

export interface Traffic {
  /** Every call that has ended so far, in the order of their ends. */
  readonly calls: readonly Call[]
  /** The first call that began after `time` and had an answer. */
  firstGood(time: number): Promise<Call>
  stop(): Promise<readonly Call[]>
}

/** How long a test waits for a call to succeed again: far beyond what any test then allows. Milliseconds. */
const PATIENCE_MS = 60_000

/** Starts calling from a pod; it is under way when this resolves. */
export async function startTraffic(
  t: Test,
  lab: Lab,
  pod: string,
  url: string,
  options: { readonly marker?: string; readonly intervalMs?: number } = {},
): Promise<Traffic> {
  const child = lab.spawn(pod, [
    'node',
    'test/e2e/programs/caller.ts',
    url,
    options.marker ?? '',
    String(options.intervalMs ?? 25),
  ])
  const exited = once(child, 'exit')
  t.teardown(() => void child.kill('SIGKILL'))
  const calls: Call[] = []
  let complaint = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (complaint += text))
  if (child.stdout === null) throw new Error('Cannot read the caller: it has no output')
  createInterface({ input: child.stdout }).on('line', (line) => {
    calls.push(JSON.parse(line) as Call)
  })
  await lab.waitFor(`calls of ${pod} to ${url}`, () => {
    if (child.exitCode !== null) throw new Error(`the caller ended: ${complaint}`)
    return calls.filter((call) => call.error === undefined).length >= 5 ? true : undefined
  })
  return {
    calls,
    firstGood: async (time) =>
      await lab.waitFor(
        `a good call of ${pod}`,
        () => calls.find((call) => call.startedAt >= time && call.error === undefined),
        PATIENCE_MS,
      ),
    stop: async () => {
      child.kill('SIGKILL')
      await exited
      return calls
    },
  }
}

/** Calls again and again, until the signal; gives what came of each. For who is not to be served. */
export async function attempts(
  lab: Lab,
  from: string,
  url: string,
  signal: AbortSignal,
): Promise<readonly Call[]> {
  const child = lab.spawn(from, ['node', 'test/e2e/programs/caller.ts', url, '', '100'])
  const calls: Call[] = []
  if (child.stdout === null) throw new Error('Cannot read the caller: it has no output')
  createInterface({ input: child.stdout }).on('line', (line) => {
    calls.push(JSON.parse(line) as Call)
  })
  const exited = once(child, 'exit')
  const end = (): void => void child.kill('SIGKILL')
  signal.addEventListener('abort', end, { once: true })
  if (signal.aborted) end()
  await exited
  return calls
}

/** The calls that failed, by error. */
export function failures(calls: readonly Call[]): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (const { error } of calls) if (error !== undefined) counts[error] = (counts[error] ?? 0) + 1
  return counts
}
