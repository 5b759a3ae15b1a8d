// SPDX-License-Identifier: Apache-2.0
// The frame of every long-running program: starts it, waits for a signal or its own wish to end, stops it within a deadline, and says
// what went wrong in one line with a code. A fault that nobody caught ends the process: half a program helps nobody.

import { inTime, LATE } from '../async/deadline.ts'
import { AmbitError, errorMessage } from '../errors.ts'
import type { Result } from '../result.ts'
import type { Logger } from '../telemetry/log.ts'

export interface Running {
  stop(): Promise<void>
}

export interface ProgramOptions {
  readonly name: string
  readonly log: Logger
  /** Starts everything. `signal` gives up starting; `end` ends the program as a signal would. */
  readonly start: (signal: AbortSignal, end: () => void) => Promise<Result<Running, AmbitError>>
  /** How long stop() may take, in milliseconds. */
  readonly stopDeadlineMs: number
}

/** Runs until SIGTERM, SIGINT or `end`; the exit code. */
export async function runProgram({
  name,
  log,
  start,
  stopDeadlineMs,
}: ProgramOptions): Promise<number> {
  const ending = new AbortController()
  const end = (): void => ending.abort()
  const onSignal = (signal: string): void => {
    log.info({ signal }, 'stopping')
    end()
  }
  const onFault = (error: unknown): void => {
    log.fatal({ error }, `the ${name} failed`)
    process.exit(1)
  }
  process.once('SIGTERM', onSignal)
  process.once('SIGINT', onSignal)
  process.on('uncaughtException', onFault)
  try {
    const started = await start(ending.signal, end)
    if (!started.ok) return ending.signal.aborted ? 0 : failed(name, log, started.error)
    await aborted(ending.signal)
    if ((await inTime(started.value.stop(), stopDeadlineMs)) === LATE)
      log.warn({ deadlineMs: stopDeadlineMs }, 'did not stop in time; ending anyway')
    else log.info('stopped')
    return 0
  } catch (thrown) {
    return failed(name, log, thrown)
  } finally {
    process.off('SIGTERM', onSignal)
    process.off('SIGINT', onSignal)
    process.off('uncaughtException', onFault)
  }
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  const { promise, resolve } = Promise.withResolvers<undefined>()
  signal.addEventListener('abort', () => resolve(undefined), { once: true })
  await promise
}

function failed(name: string, log: Logger, thrown: unknown): number {
  if (thrown instanceof AmbitError)
    log.fatal({ code: thrown.code, hint: thrown.hint }, thrown.message)
  else log.fatal({ error: errorMessage(thrown) }, `the ${name} failed`)
  return 1
}
