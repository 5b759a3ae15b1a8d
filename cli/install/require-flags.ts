// SPDX-License-Identifier: Apache-2.0
// Has the programs of the mesh read the flags that the chart makes of values, before anything is applied: a filter or a flag of one's own that
// a program refuses is found here, and not by agents that end at their start.

import { type Command, CommanderError } from 'commander'
import { agentCommand } from '../../agent/config.ts'
import { controllerCommand } from '../../controller/config.ts'
import type { ChartObject } from '../../daemonset/render/chart.ts'
import { isRecord } from '../../daemonset/render/functions.ts'
import { refused, type Values } from '../../daemonset/render/values.ts'

const read = (): Promise<void> => Promise.resolve()
const PROGRAMS: Readonly<Record<string, () => Command>> = {
  agent: () => agentCommand(read),
  controller: () => controllerCommand(read),
}
/** What must be said, and the pod's own fields say by the environment. */
const BY_ENVIRONMENT: Readonly<Record<string, readonly string[]>> = { agent: ['--node-name=node'] }
/** Values whose form only a program knows, by the flag that they become. */
const VALUES: Readonly<Record<string, string>> = {
  '--access-log-filter': 'agent.accessLog.filter',
  '--namespace-selector': 'mesh.namespaceSelector',
  '--certificate-signer': 'controller.certificateSigner',
  '--otlp-endpoint': 'otlp.endpoint',
  '--serving-names': 'controller.servingNames',
}

/** Throws AMB_CHART_VALUES with the value's path and what the program says of it. */
export async function requireFlags(objects: readonly ChartObject[], values: Values): Promise<void> {
  for (const args of objects.flatMap(argumentsOf)) {
    const [program = '', ...flags] = args
    const command = PROGRAMS[program]?.()
    if (command === undefined) continue
    command.exitOverride().configureOutput({ writeErr: () => undefined })
    try {
      await command.parseAsync([...flags, ...(BY_ENVIRONMENT[program] ?? [])], { from: 'user' })
    } catch (thrown) {
      if (!(thrown instanceof CommanderError)) throw thrown
      const words = thrown.message.replace(/^error: /, '').replace(/\.+$/, '')
      throw refused(`Cannot take these values: ${pathOf(program, words, values)}: ${words}`)
    }
  }
}

function argumentsOf({ object }: ChartObject): readonly (readonly string[])[] {
  const template = field(field(object, 'spec'), 'template')
  const containers = field(field(template, 'spec'), 'containers')
  return (Array.isArray(containers) ? containers : []).flatMap((container) => {
    const args = field(container, 'args')
    return Array.isArray(args) ? [args.map(String)] : []
  })
}

/** What the refused flag comes from: one of a person's own, or a value of the chart. */
function pathOf(program: string, words: string, values: Values): string {
  const flag = /(--[a-z][a-z-]*)/.exec(words)?.[1] ?? ''
  const extra = field(field(values, program), 'extraArgs')
  const place = (Array.isArray(extra) ? extra : []).findIndex(
    (each) => String(each).split('=')[0] === flag,
  )
  return place < 0 ? (VALUES[flag] ?? `${program} (${flag})`) : `${program}.extraArgs[${place}]`
}

const field = (value: unknown, name: string): unknown => (isRecord(value) ? value[name] : undefined)
