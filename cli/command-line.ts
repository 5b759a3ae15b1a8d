// SPDX-License-Identifier: Apache-2.0
// The tree of commands: those that look at a cluster, the lab's, and the names of the programs.

import { Command } from 'commander'
import { VERSION } from '../mesh/program/version.ts'
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
  const { labCommand } = await import('./lab.ts')
  // Scripts call the lab's again and again: it starts in half the time without all that looks at clusters.
  if (argv[0] === 'lab') program.addCommand(labCommand())
  else await addAll(program, labCommand())
  inheritSettings(program)
  if (argv.length === 0) program.outputHelp()
  else await program.parseAsync(argv, { from: 'user' })
}

/** In the order in which --help lists them. */
async function addAll(program: Command, lab: Command): Promise<void> {
  const { clusterCommands } = await import('./cluster-commands.ts')
  const { completionCommand } = await import('./commands/completion.ts')
  for (const command of clusterCommands()) program.addCommand(command)
  program.addCommand(lab)
  program.addCommand(completionCommand(program))
  for (const command of programCommands()) program.addCommand(command)
}

/** Commands added as whole objects do not inherit how errors are handled. */
function inheritSettings(parent: Command): void {
  for (const child of parent.commands) {
    child.copyInheritedSettings(parent)
    inheritSettings(child)
  }
}
