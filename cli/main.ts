// SPDX-License-Identifier: Apache-2.0
// The `ambit` command: runs the program or the command that is named, and turns errors into one line and an exit code
// (0 done, 1 failed, 2 wrong usage).

import { CommanderError } from 'commander'
import { exitCodeOf, printError } from './output.ts'
import { loadProgram } from './programs.ts'

const argv = process.argv.slice(2)

try {
  // Before the tree of commands is made: an agent loads none of it, and is back after a kill the sooner.
  const program = await loadProgram(argv[0])
  if (program !== undefined) await program.main(argv.slice(1))
  else {
    const { runCommandLine } = await import('./command-line.ts')
    await runCommandLine(argv)
  }
} catch (error) {
  if (error instanceof CommanderError && (error.exitCode === 0 || error.code === 'commander.help'))
    process.exitCode = 0
  else {
    printError(error)
    // Whatever is still open belongs to what failed: nobody waits for it.
    process.exit(exitCodeOf(error))
  }
}
