// SPDX-License-Identifier: Apache-2.0
// The tree of commands: those that look at a cluster, the lab's, and the names of the programs.

import { Command } from 'commander'
import { VERSION } from '../mesh/program/version.ts'
import { clusterCommands } from './cluster-commands.ts'
import { completionCommand } from './commands/completion.ts'
import { labCommand } from './lab.ts'
import { print } from './output.ts'
import { programCommands } from './programs.ts'

/** Runs the command that the arguments name; throws CommanderError and AmbitError. */
export async function runCommandLine(argv: readonly string[]): Promise<void> {
  const program = new Command('ambit')
    .description('Ambit: an ambient service mesh for Kubernetes')
    .version(VERSION)
    .helpCommand(false)
    .exitOverride()
    // Errors are printed by the caller; what is left is the help of a group that was called without a command.
    .configureOutput({ writeErr: (text) => print(text.trimEnd()), outputError: () => undefined })
    .enablePositionalOptions()
    .showHelpAfterError(false)
  for (const command of clusterCommands()) program.addCommand(command)
  program.addCommand(labCommand())
  program.addCommand(completionCommand(program))
  for (const command of programCommands()) program.addCommand(command)
  inheritSettings(program)
  if (argv.length === 0) program.outputHelp()
  else await program.parseAsync(argv, { from: 'user' })
}

/** Commands added as whole objects do not inherit how errors are handled. */
function inheritSettings(parent: Command): void {
  for (const child of parent.commands) {
    child.copyInheritedSettings(parent)
    inheritSettings(child)
  }
}
