// SPDX-License-Identifier: Apache-2.0
// What docs/waypoints.md prints, run as it is printed, and the calls of the shop's frontend that show what has come of it.

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Lab } from '../../../lab/cluster/index.ts'
import { tryCommand } from '../../../lab/machine/command.ts'

export const SHOP = fileURLToPath(new URL('../../../lab/samples/shop.yaml', import.meta.url))
const AMBIT = fileURLToPath(new URL('../../../cli/bin/ambit', import.meta.url))
const GUIDE = readFileSync(new URL('../../../docs/waypoints.md', import.meta.url), 'utf8')
export const CATALOG = 'http://catalog.shop/'

export interface Answer {
  readonly version: string
  readonly pod: string
  readonly client: string
}

/** The objects that the guide prints under this name. */
export function printed(name: string): string {
  const block = new RegExp(`^\`\`\`yaml\\n# ${name}\\n(.*?)^\`\`\`$`, 'ms').exec(GUIDE)?.[1]
  if (block === undefined) throw new Error(`docs/waypoints.md has no objects named "${name}"`)
  return block
}

/** Runs a command as the guide prints it, in this lab. */
export async function asPrinted(lab: Lab, command: string): Promise<string> {
  if (!GUIDE.split('\n').includes(command)) throw new Error(`docs/waypoints.md has no "${command}"`)
  const [program, ...args] = command.split(' ')
  return program === 'kubectl' ? await lab.kubectl(...args) : await ambit(lab, ...args)
}

/** Runs the command line in this lab. */
export async function ambit(lab: Lab, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await tryAmbit(lab, ...args)
  if (code !== 0) throw new Error(`ambit ${args.join(' ')} ends with ${code}: ${stderr}`)
  return stdout
}

/** The same, however it ends. */
export async function tryAmbit(lab: Lab, ...args: readonly string[]) {
  // As istioctl's, the waypoint commands mean the waypoint by --name.
  const inLab = args[0] === 'waypoint' ? '--lab' : '--name'
  return await tryCommand([AMBIT, ...args, inLab, lab.name])
}

/** The answers to as many calls of the frontend, over one connection of curl; a call that fails ends it. */
export async function answers(
  lab: Lab,
  calls: number,
  ...flags: readonly string[]
): Promise<readonly Answer[]> {
  const url = `${CATALOG}?[1-${calls}]`
  const curl = ['curl', '-sS', '--fail-early', '-f', '-m', '20', ...flags, url]
  const { code, stdout, stderr } = await lab.exec('shop/frontend', curl)
  if (code !== 0) throw new Error(`curl ends with ${code}: ${stderr}`)
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Answer)
}

/** How many of them were given by v2. */
export const ofV2 = (all: readonly Answer[]): number =>
  all.filter(({ version }) => version === 'v2').length

/** Waits until this holds. */
export async function until(lab: Lab, what: string, holds: () => Promise<boolean>): Promise<void> {
  await lab.waitFor(what, async () => ((await holds()) ? true : undefined))
}
