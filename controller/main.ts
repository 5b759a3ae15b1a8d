// SPDX-License-Identifier: Apache-2.0
// `ambit controller`: reads the flags, runs until a signal, stops in good order.

import { runCommand } from '../mesh/program/command-line.ts'
import { AmbitError, errorMessage } from '../mesh/errors.ts'
import { createKubeApi, loadKubeConfig } from '../mesh/kube/index.ts'
import { createLogger, type Logger } from '../mesh/telemetry/log.ts'
import { type ControllerConfig, controllerCommand } from './config.ts'
import { startController } from './controller.ts'

/** Kubernetes kills after 30 s; a controller that has not stopped by then will not. */
const STOP_DEADLINE_MS = 15_000

/**
 * Runs the controller until SIGTERM or SIGINT; argv without the program's and the command's name.
 * Sets the process's exit code.
 */
export async function main(argv: readonly string[]): Promise<void> {
  const command = controllerCommand(async (config) => {
    process.exitCode = await run(config)
  })
  await runCommand(command, argv)
}

async function run(config: ControllerConfig): Promise<number> {
  const log = createLogger('controller', config.logLevel)
  const ending = new AbortController()
  const end = (signal: string): void => {
    log.info({ signal }, 'stopping')
    ending.abort()
  }
  process.once('SIGTERM', end)
  process.once('SIGINT', end)
  try {
    const access = await loadKubeConfig({
      ...(config.kubeconfig !== undefined && { kubeconfig: config.kubeconfig }),
      ...(config.context !== undefined && { context: config.context }),
    })
    if (!access.ok) return failed(log, access.error)
    const api = createKubeApi(access.value)
    const started = await startController({ config, api, log, signal: ending.signal })
    if (!started.ok) return ending.signal.aborted ? 0 : failed(log, started.error)
    if (!ending.signal.aborted)
      await new Promise((resolve) =>
        ending.signal.addEventListener('abort', resolve, { once: true }),
      )
    await stopInTime(started.value.stop(), log)
    return 0
  } catch (thrown) {
    return failed(log, thrown)
  } finally {
    process.off('SIGTERM', end)
    process.off('SIGINT', end)
  }
}

async function stopInTime(stopping: Promise<void>, log: Logger): Promise<void> {
  const deadline = new Promise<'late'>((resolve) => {
    setTimeout(() => resolve('late'), STOP_DEADLINE_MS).unref()
  })
  if ((await Promise.race([stopping, deadline])) === 'late')
    log.warn({ deadlineMs: STOP_DEADLINE_MS }, 'did not stop in time; ending anyway')
  else log.info('stopped')
}

function failed(log: Logger, thrown: unknown): number {
  if (thrown instanceof AmbitError)
    log.fatal({ code: thrown.code, hint: thrown.hint }, thrown.message)
  else log.fatal({ reason: errorMessage(thrown) }, 'the controller failed')
  return 1
}
