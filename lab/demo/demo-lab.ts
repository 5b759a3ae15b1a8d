// SPDX-License-Identifier: Apache-2.0
// A lab seen through the few calls that a person would type: what the demonstration's checks work with.

import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { agentPod, type CommandOutput, type Lab } from '../cluster/index.ts'
import { tryCommand } from '../machine/command.ts'
import { CheckFailed, type DemoLab } from './check.ts'

const AMBIT = fileURLToPath(new URL('../../cli/bin/ambit', import.meta.url))

/** How much of a failed command's output a check quotes. Characters. */
const QUOTED_OUTPUT = 500

/** Captures go to files in `directory`, which the caller removes. */
export function demoLab(lab: Lab, directory: string): DemoLab {
  let captures = 0
  return {
    name: lab.name,
    kubectl: (...args) => lab.kubectl(...args),
    exec: async (pod, ...command) => stdoutOf(await lab.exec(pod, command)),
    nodeExec: async (node, ...command) => stdoutOf(await lab.nodeExec(node, command)),
    apply: (object) => lab.apply(JSON.stringify(object)),
    ambit: async (...args) => stdoutOf(await ambit(lab, args)),
    ambitSays: async (...args) => {
      const output = await ambit(lab, args)
      // Who could not say anything has said why.
      return output.stdout === '' ? stdoutOf(output) : output.stdout
    },
    agentLog: (node) => lab.log(agentPod(lab.layout, node)),
    capture: async (link) => {
      captures += 1
      const file = join(directory, `${link}-${captures}.pcap`)
      const capture = await lab.capture(link, file)
      return {
        stop: async () => {
          await capture.stop()
          return file
        },
      }
    },
  }
}

function ambit(lab: Lab, args: readonly string[]): Promise<CommandOutput> {
  // Of a waypoint, --name is the waypoint's.
  const flag = args[0] === 'waypoint' ? '--lab' : '--name'
  return tryCommand([AMBIT, ...args, flag, lab.name])
}

function stdoutOf({ code, stdout, stderr }: CommandOutput): string {
  if (code === 0) return stdout
  const said = (stderr.trim() || stdout.trim()).slice(0, QUOTED_OUTPUT)
  throw new CheckFailed(`exit ${code}: ${said}`)
}
