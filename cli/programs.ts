// SPDX-License-Identifier: Apache-2.0
// The long-running programs as commands: `ambit agent` and `ambit controller`. Each reads its own flags, and is
// loaded only when it is asked for.

import { Command } from 'commander'

type Program = { readonly main: (argv: readonly string[]) => Promise<void> | void }

/** The commands of all programs. */
export function programCommands(): readonly Command[] {
  return [
    programCommand(
      'agent',
      'the node agent: enrols pods and carries their connections',
      // Loaded by name at run time, so that the command line starts without it.
      async () => await importProgram('../agent/main.ts'),
    ),
    programCommand(
      'controller',
      'the control plane: watches Kubernetes and serves agents',
      async () => await importProgram('../controller/main.ts'),
    ),
  ]
}

async function importProgram(path: string): Promise<Program> {
  const program: unknown = await import(new URL(path, import.meta.url).href)
  if (typeof program === 'object' && program !== null && 'main' in program)
    return program as Program
  throw new Error(`Cannot start: ${path} has no main()`)
}

function programCommand(name: string, description: string, load: () => Promise<Program>): Command {
  return new Command(name)
    .description(description)
    .argument('[flags...]', 'see --help of the program itself')
    .allowUnknownOption()
    .passThroughOptions()
    .helpOption(false)
    .action(async () => {
      const at = process.argv.indexOf(name)
      const { main } = await load()
      await main(process.argv.slice(at + 1))
    })
}
