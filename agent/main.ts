// SPDX-License-Identifier: Apache-2.0
// `ambit agent`: reads the flags, runs until a signal or a request to quit, stops in good order.

import { trimMalloc } from '../native/libc.ts'
import { runCommand } from '../mesh/program/command-line.ts'
import { runProgram } from '../mesh/program/run.ts'
import { createLeveledLogger } from '../mesh/telemetry/log.ts'
import { startAgent } from './agent.ts'
import { agentCommand } from './config.ts'
import { giveBackHeap, trimWhenCalm } from './memory/give-back.ts'

/** On top of the drain deadline: what else there is to close is quick, and must not hang an upgrade. */
const STOP_MARGIN_MS = 5_000

/**
 * Runs the agent until SIGTERM, SIGINT or /quitquitquit; argv without the program's and the command's name. A fault leaves the pins:
 * captured pods fail closed until the next start, which is at once.
 */
export async function main(argv: readonly string[]): Promise<void> {
  const command = agentCommand(async (config) => {
    const { log, levels } = createLeveledLogger('agent', config.logLevel)
    const memory = { trim: trimMalloc, log: log.child({ part: 'memory' }) }
    giveBackHeap({ ...memory, collector: globalThis.gc, descriptors: () => 0 })
    trimWhenCalm(memory)
    const code = await runProgram({
      name: 'agent',
      log,
      start: (_signal, end) => startAgent({ config, log, levels, quit: end }),
      stopDeadlineMs: config.drainDeadlineMs + STOP_MARGIN_MS,
    })
    // Not by letting the event loop run dry: whatever a fault left behind must not keep the agent from ending.
    process.exit(code)
  })
  await runCommand(command, argv)
}
