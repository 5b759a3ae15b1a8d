// SPDX-License-Identifier: Apache-2.0
// `ambit controller`: reads the flags, runs until a signal, stops in good order.

import { createKubeApi, loadKubeConfig } from '../mesh/kube/index.ts'
import { runCommand } from '../mesh/program/command-line.ts'
import { runProgram } from '../mesh/program/run.ts'
import { createLeveledLogger, printLine } from '../mesh/telemetry/log.ts'
import { controllerCommand } from './config.ts'
import { startController } from './controller.ts'

/** Kubernetes kills after 30 s; a controller that has not stopped by then will not. */
const STOP_DEADLINE_MS = 15_000

/**
 * Runs the controller until SIGTERM or SIGINT; argv without the program's and the command's name.
 * Sets the process's exit code.
 */
export async function main(argv: readonly string[]): Promise<void> {
  const command = controllerCommand(async (config) => {
    const { log, levels } = createLeveledLogger('controller', config.logLevel, config.logFormat)
    process.exitCode = await runProgram({
      name: 'controller',
      log,
      start: async (signal) => {
        const access = await loadKubeConfig(config)
        if (!access.ok) return access
        const api = createKubeApi(access.value)
        return startController({ config, api, log, levels, writeAudit: printLine, signal })
      },
      stopDeadlineMs: STOP_DEADLINE_MS,
    })
  })
  await runCommand(command, argv)
}
