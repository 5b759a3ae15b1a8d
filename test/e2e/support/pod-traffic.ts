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

export interface TrafficOptions {
  readonly marker?: string
  readonly intervalMs?: number
}

/** So many calls, and traffic is under way. */
const FIRST_CALLS = 5
/** How long a test waits for a call to succeed again: far beyond what any test then allows. Milliseconds. */
const PATIENCE_MS = 60_000

/** Starts calling from a pod; it is under way when this resolves. */
export async function startTraffic(
  t: Test,
  lab: Lab,
  pod: string,
  url: string,
  options: TrafficOptions = {},
): Promise<Traffic> {
  const traffic = startAttempts(t, lab, pod, url, options)
  const { calls } = traffic
  await underWay(lab, `calls of ${pod} to ${url}`, traffic, () =>
    calls.filter((call) => call.error === undefined),
  )
  return {
    calls,
    firstGood: async (time) =>
      await lab.waitFor(
        `a good call of ${pod}`,
        () => calls.find((call) => call.startedAt >= time && call.error === undefined),
        PATIENCE_MS,
      ),
    stop: async () => await traffic.stop(),
  }
}

/** The same of calls that may all be refused: some have ended when this resolves. */
export async function startRefused(
  t: Test,
  lab: Lab,
  pod: string,
  url: string,
  options: TrafficOptions = {},
): Promise<Pick<Traffic, 'calls' | 'stop'>> {
  const traffic = startAttempts(t, lab, pod, url, options)
  await underWay(lab, `refusals of ${pod} to ${url}`, traffic, () => traffic.calls)
  return traffic
}

interface Attempts extends Pick<Traffic, 'calls' | 'stop'> {
  /** What the caller said of its own end; undefined while it runs. */
  readonly complaint: () => string | undefined
}

function startAttempts(
  t: Test,
  lab: Lab,
  pod: string,
  url: string,
  options: TrafficOptions,
): Attempts {
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
  return {
    calls,
    complaint: () => (child.exitCode === null ? undefined : complaint),
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

async function underWay(
  lab: Lab,
  what: string,
  { complaint }: Attempts,
  meant: () => readonly Call[],
): Promise<void> {
  await lab.waitFor(what, () => {
    const said = complaint()
    if (said !== undefined) throw new Error(`the caller ended: ${said}`)
    return meant().length >= FIRST_CALLS ? true : undefined
  })
}

/** The calls that failed, by error. */
export function failures(calls: readonly Call[]): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (const { error } of calls) if (error !== undefined) counts[error] = (counts[error] ?? 0) + 1
  return counts
}
