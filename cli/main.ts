// SPDX-License-Identifier: Apache-2.0
// The `ambit` command: puts the groups of commands together and turns errors into one line and an exit code
// (0 done, 1 failed, 2 wrong usage).

import { Command, CommanderError } from 'commander'
import { VERSION } from '../mesh/program/version.ts'
import { clusterCommands } from './cluster-commands.ts'
import { completionCommand } from './commands/completion.ts'
import { labCommand } from './lab.ts'
import { exitCodeOf, print, printError } from './output.ts'
import { programCommands } from './programs.ts'

const program = new Command('ambit')
  .description('Ambit: an ambient service mesh for Kubernetes')
  .version(VERSION)
  .helpCommand(false)
  .exitOverride()
  // Errors are printed below; what is left is the help of a group that was called without a command.
  .configureOutput({ writeErr: (text) => print(text.trimEnd()), outputError: () => undefined })
  .enablePositionalOptions()
  .showHelpAfterError(false)

for (const command of clusterCommands()) program.addCommand(command)
program.addCommand(labCommand())
program.addCommand(completionCommand(program))
inheritSettings(program)
// After the others: inherited settings would put a --help of their own before the programs' flags.
for (const command of programCommands()) program.addCommand(command)

try {
  if (process.argv.length <= 2) program.outputHelp()
  else await program.parseAsync(process.argv)
} catch (error) {
  if (error instanceof CommanderError && (error.exitCode === 0 || error.code === 'commander.help'))
    process.exitCode = 0
  else {
    printError(error)
    // Whatever is still open belongs to what failed: nobody waits for it.
    process.exit(exitCodeOf(error))
  }
}

/** Commands added as whole objects do not inherit how errors are handled. */
function inheritSettings(parent: Command): void {
  for (const child of parent.commands) {
    child.copyInheritedSettings(parent)
    inheritSettings(child)
  }
}
