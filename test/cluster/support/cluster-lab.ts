// SPDX-License-Identifier: Apache-2.0
// A real cluster seen through the few calls that a person would type: what the demonstration's checks work with.

import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CheckFailed, type DemoLab } from '../../../lab/demo/check.ts'
import { type CommandOutput, tryCommand } from '../../../lab/machine/command.ts'
import { inNetworkOf, inNode } from '../../../lab/real/node-command.ts'
import type { StoryTarget } from './target.ts'

const AMBIT = fileURLToPath(new URL('../../../cli/bin/ambit', import.meta.url))
const MESH_NAMESPACE = 'ambit-system'
const QUOTED_OUTPUT = 2_000
/** Some commands wait for pods to start. */
const COMMAND_TIMEOUT_MS = 180_000
const LARGEST_LOG_BYTES = 64 * 1024 * 1024

/** Captures go to files in `directory`, which the caller removes. */
export function clusterLab({ kubeconfig }: StoryTarget, directory: string): DemoLab {
  const run = (argv: readonly string[], input?: string): Promise<CommandOutput> =>
    tryCommand(argv, {
      env: { ...process.env, KUBECONFIG: kubeconfig },
      timeoutMs: COMMAND_TIMEOUT_MS,
      ...(input === undefined ? {} : { input }),
    })
  const kubectl = async (...args: readonly string[]): Promise<string> =>
    stdoutOf(await run(['kubectl', ...args]))
  let captures = 0
  return {
    name: 'cluster',
    kubectl,
    exec: async (pod, ...command) => {
      const [namespace = '', name = ''] = pod.split('/')
      return await kubectl('exec', '-n', namespace, name, '--', ...command)
    },
    nodeExec: async (node, ...command) => stdoutOf(await run([...inNode(node), ...command])),
    apply: async (object) => {
      stdoutOf(await run(['kubectl', 'apply', '-f', '-'], JSON.stringify(object)))
    },
    ambit: async (...args) => stdoutOf(await run([AMBIT, ...args])),
    ambitSays: async (...args) => {
      const output = await run([AMBIT, ...args])
      return output.stdout === '' ? stdoutOf(output) : output.stdout
    },
    agentLog: (node) => {
      const options = { env: { ...process.env, KUBECONFIG: kubeconfig }, encoding: 'utf8' } as const
      const ask = (...args: readonly string[]): string =>
        execFileSync('kubectl', ['-n', MESH_NAMESPACE, ...args], {
          ...options,
          maxBuffer: LARGEST_LOG_BYTES,
        })
      const onNode = `--field-selector=spec.nodeName=${node},status.phase=Running`
      const agent = ask('get', 'pods', '-l', 'app=ambit-agent', onNode, '-o', 'name').trim()
      return ask('logs', agent)
    },
    capture: async () => {
      captures += 1
      const file = join(directory, `fabric-${captures}.pcap`)
      const flags = ['--packet-buffered', '--immediate-mode', '--relinquish-privileges=root']
      const argv = [...inNetworkOf('fabric'), 'tcpdump', '-i', 'br0', ...flags, '-w', file]
      const child = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] })
      const exited = once(child, 'exit')
      let said = ''
      const { promise: listening, resolve, reject } = Promise.withResolvers<void>()
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        if ((said += text).includes('listening on')) resolve()
      })
      child.once('exit', () => reject(new Error(`Cannot capture: ${said.trim()}`)))
      await listening
      return {
        stop: async () => {
          child.kill('SIGINT')
          await exited
          return file
        },
      }
    },
  }
}

function stdoutOf({ code, stdout, stderr }: CommandOutput): string {
  if (code === 0) return stdout
  const said = (stderr.trim() || stdout.trim()).slice(0, QUOTED_OUTPUT)
  throw new CheckFailed(`exit ${code}: ${said}`)
}
