// SPDX-License-Identifier: Apache-2.0
// How the long-running programs read their flags: wrong usage is a coded error like any other, told in one line.

import { type Command, CommanderError } from 'commander'
import { AmbitError } from '../errors.ts'

/**
 * Runs a command on its arguments (without the program's and the command's name); --help prints and returns.
 * Throws AMB_USAGE, naming the flag, when the arguments are wrong; whatever the command's action throws.
 */
export async function runCommand(command: Command, argv: readonly string[]): Promise<void> {
  try {
    command.exitOverride().configureOutput({ writeErr: () => undefined })
    await command.parseAsync(argv, { from: 'user' })
  } catch (thrown) {
    if (!(thrown instanceof CommanderError)) throw thrown
    if (thrown.exitCode === 0) return
    const reason = thrown.message.replace(/^error: |\.$/g, '').replaceAll('\n', ' ')
    throw new AmbitError('AMB_USAGE', `Cannot run ${command.name()}: ${reason}`, { cause: thrown })
  }
}
