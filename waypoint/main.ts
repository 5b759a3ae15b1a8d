// SPDX-License-Identifier: Apache-2.0
// `ambit waypoint-proxy`: reads the flags, runs until a signal, stops in good order.

import { trimMalloc, trimProcess } from '../native/libc.ts'
import { loadSocketAddon } from '../native/socket-addon.ts'
import { giveBackMemory } from '../mesh/program/memory/give-back.ts'
import { runCommand } from '../mesh/program/command-line.ts'
import { runProgram } from '../mesh/program/run.ts'
import { chooseEngine } from '../mesh/relay/choose-engine.ts'
import { createLeveledLogger, printLine } from '../mesh/telemetry/log.ts'
import { waypointCommand } from './config.ts'
import { startWaypoint } from './start-waypoint.ts'

/** On top of the drain deadline: what else there is to close is quick, and must not hang a rollout. */
const STOP_MARGIN_MS = 5_000

/** Runs the waypoint until SIGTERM or SIGINT; argv without the program's and the command's name. */
export async function main(argv: readonly string[]): Promise<void> {
  const command = waypointCommand(async (config) => {
    const { log, levels } = createLeveledLogger('waypoint', config.logLevel, config.logFormat)
    giveBackMemory({ trimHeap: trimMalloc, trimProcess, log })
    const engine = chooseEngine(loadSocketAddon, log)
    const code = await runProgram({
      name: 'waypoint',
      log,
      start: (_signal, end) =>
        startWaypoint({ config, log, levels, engine, writeAudit: printLine, quit: end }),
      stopDeadlineMs: config.drainDeadlineMs + STOP_MARGIN_MS,
    })
    // Not by letting the event loop run dry: whatever a fault left behind must not keep the waypoint from ending.
    process.exit(code)
  })
  await runCommand(command, argv)
}
