// SPDX-License-Identifier: Apache-2.0
// `ambit agent`: reads the flags, runs until a signal or a request to quit, stops in good order.

import { runCommand } from '../mesh/program/command-line.ts'
import { AmbitError, errorMessage } from '../mesh/errors.ts'
import { createLogger, type Logger } from '../mesh/telemetry/log.ts'
import { startAgent } from './agent.ts'
import { type AgentConfig, agentCommand } from './config.ts'

/** On top of the drain deadline: what else there is to close is quick, and must not hang an upgrade. */
const STOP_MARGIN_MS = 5_000

/** Runs the agent until SIGTERM, SIGINT or /quitquitquit; argv without the program's and the command's name. */
export async function main(argv: readonly string[]): Promise<void> {
  const command = agentCommand(async (config) => {
    const log = createLogger('agent', config.logLevel)
    const code = await run(config, log)
    // Not by letting the event loop run dry: whatever a fault left behind must not keep the agent from ending.
    process.exit(code)
  })
  await runCommand(command, argv)
}

async function run(config: AgentConfig, log: Logger): Promise<number> {
  const { promise: ending, resolve: end } = Promise.withResolvers<{ readonly unpin: boolean }>()
  const onSignal = (signal: string): void => {
    log.info({ signal }, 'stopping')
    end({ unpin: config.unpinOnExit })
  }
  process.once('SIGTERM', onSignal)
  process.once('SIGINT', onSignal)
  process.on('uncaughtException', (error) => {
    // Pins stay: captured pods fail closed until the next start, which is at once.
    log.fatal({ err: error }, 'the agent failed')
    process.exit(1)
  })
  try {
    const started = await startAgent({ config, log, quit: end })
    if (!started.ok) return failed(log, started.error)
    const { unpin } = await ending
    const late = new Promise<'late'>((resolve) => {
      setTimeout(() => resolve('late'), config.drainDeadlineMs + STOP_MARGIN_MS).unref()
    })
    if ((await Promise.race([started.value.stop({ unpin }), late])) === 'late')
      log.warn('did not stop in time; ending anyway')
    else log.info({ unpin }, 'stopped')
    return 0
  } catch (thrown) {
    return failed(log, thrown)
  }
}

function failed(log: Logger, thrown: unknown): number {
  if (thrown instanceof AmbitError)
    log.fatal({ code: thrown.code, hint: thrown.hint }, thrown.message)
  else log.fatal({ reason: errorMessage(thrown) }, 'the agent failed')
  return 1
}
