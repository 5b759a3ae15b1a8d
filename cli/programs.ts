// SPDX-License-Identifier: Apache-2.0
// The long-running programs: `ambit agent`, `ambit controller` and `ambit waypoint-proxy`. Each reads its own flags, and is loaded only when
// it is asked for.

import { Command } from 'commander'

interface Program {
  /** Without the program's and the command's name. */
  readonly main: (argv: readonly string[]) => Promise<void> | void
}

interface ProgramFile {
  readonly description: string
  /** By name at run time, so that the command line starts without it. */
  readonly path: string
}

const PROGRAMS = new Map<string, ProgramFile>([
  [
    'agent',
    {
      description: 'the node agent: enrols pods and carries their connections',
      path: '../agent/main.ts',
    },
  ],
  [
    'controller',
    {
      description: 'the control plane: watches Kubernetes and serves agents',
      path: '../controller/main.ts',
    },
  ],
  [
    'waypoint-proxy',
    {
      description: 'a waypoint: routes the calls to what is bound to its Gateway',
      path: '../waypoint/main.ts',
    },
  ],
])

/** Undefined when no program has the name. */
export async function loadProgram(name: string | undefined): Promise<Program | undefined> {
  const file = name === undefined ? undefined : PROGRAMS.get(name)
  if (file === undefined) return undefined
  const program: unknown = await import(new URL(file.path, import.meta.url).href)
  if (typeof program === 'object' && program !== null && 'main' in program)
    return program as Program
  throw new Error(`Cannot start: ${file.path} has no main()`)
}

/** The programs as the help and the shell completion name them; run by loadProgram(). */
export function programCommands(): readonly Command[] {
  return [...PROGRAMS].map(([name, { description }]) =>
    new Command(name)
      .description(description)
      .argument('[flags...]', 'see --help of the program itself')
      .helpOption(false),
  )
}
