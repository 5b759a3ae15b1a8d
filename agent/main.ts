// SPDX-License-Identifier: Apache-2.0
// `ambit agent`: reads the flags, runs until a signal or a request to quit, stops in good order.

import { trimMalloc, trimProcess } from '../native/libc.ts'
import { runCommand } from '../mesh/program/command-line.ts'
import { runProgram } from '../mesh/program/run.ts'
import { createLeveledLogger } from '../mesh/telemetry/log.ts'
import { startAgent } from './agent.ts'
import { agentCommand } from './config.ts'
import { compileAll, startCompiled } from './memory/compiled-start.ts'
import { giveBackMemory } from '../mesh/program/memory/give-back.ts'

/** On top of the drain deadline: what else there is to close is quick, and must not hang an upgrade. */
const STOP_MARGIN_MS = 5_000

/**
 * Runs the agent until SIGTERM, SIGINT or /quitquitquit; argv without the program's and the command's name. A fault leaves the pins:
 * captured pods fail closed until the next start, which is at once. With `--compile` alone nothing runs: the package's build calls it,
 * with the flags of V8 that an agent has, without which V8 takes nothing of what it finds compiled.
 */
export async function main(argv: readonly string[]): Promise<void> {
  if (argv[0] === '--compile') {
    await compileAll()
    return
  }
  const command = agentCommand(async (config) => {
    const { log, levels } = createLeveledLogger('agent', config.logLevel, config.logFormat)
    await startCompiled(log)
    giveBackMemory({ trimHeap: trimMalloc, trimProcess, log })
    const code = await runProgram({
      name: 'agent',
      log,
      start: (signal, end) => startAgent({ config, log, levels, quit: end, signal }),
      stopDeadlineMs: config.drainDeadlineMs + STOP_MARGIN_MS,
    })
    // Not by letting the event loop run dry: whatever a fault left behind must not keep the agent from ending.
    process.exit(code)
  })
  await runCommand(command, argv)
}
