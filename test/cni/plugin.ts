// SPDX-License-Identifier: Apache-2.0
// Runs the built ambit-cni as a runtime would.

import { execFileSync, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'

const DIRECTORY = path.join(import.meta.dirname, '../../native/cni')
const BINARY = path.join(import.meta.dirname, '../../native/build/ambit-cni')

/** Builds the plugin if it is not there or older than its sources; its path. */
export function pluginBinary(): string {
  execFileSync('make', ['-s', '-C', DIRECTORY], { stdio: ['ignore', 'ignore', 'inherit'] })
  if (!existsSync(BINARY)) throw new Error(`make did not build ${BINARY}`)
  return BINARY
}

/** Builds the plugin with the compiler's checks of memory and arithmetic; its path. */
export function sanitizedPluginBinary(): string {
  execFileSync('make', ['-s', '-C', DIRECTORY, 'sanitized'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  return `${BINARY}-sanitized`
}

export interface PluginRun {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
  /** stdout as JSON, when it is that. */
  readonly json: Readonly<Record<string, unknown>> | undefined
}

const POD_ARGS =
  'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=5f0c1c52-8a3e-4bd1-9d6f-0a53b7d8a001'

/** One call. `stdin` undefined leaves standard input open, as a hung runtime would. */
export function runPlugin(
  command: string | undefined,
  stdin: string | Buffer | undefined,
  environment: Record<string, string | undefined> = {},
  binary = BINARY,
): Promise<PluginRun> {
  const env: Record<string, string> = {}
  const wanted = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: 'c1',
    CNI_NETNS: '/run/netns/x',
    CNI_IFNAME: 'eth0',
    CNI_PATH: '/opt/cni/bin',
    CNI_ARGS: POD_ARGS,
    ...environment,
  }
  for (const [name, value] of Object.entries(wanted)) if (value !== undefined) env[name] = value
  return new Promise((resolve, reject) => {
    const child = spawn(binary, [], { env, stdio: ['pipe', 'pipe', 'pipe'] })
    const out: Buffer[] = []
    const errors: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => errors.push(chunk))
    // It may refuse before it has read everything.
    child.stdin.on('error', (thrown: NodeJS.ErrnoException) => {
      if (thrown.code !== 'EPIPE') reject(thrown)
    })
    child.on('error', reject)
    child.on('close', (code, signal) => {
      child.stdin.destroy()
      const stdout = Buffer.concat(out).toString('utf8')
      let json: Record<string, unknown> | undefined
      try {
        json = JSON.parse(stdout) as Record<string, unknown>
      } catch (thrown) {
        if (!(thrown instanceof SyntaxError)) throw thrown
      }
      resolve({ code, signal, stdout, stderr: Buffer.concat(errors).toString('utf8'), json })
    })
    if (stdin !== undefined) child.stdin.end(stdin)
  })
}

/** A result as a bridge plugin leaves it: one interface at the node, one in the pod. */
export const PREVIOUS_RESULT = {
  cniVersion: '1.0.0',
  interfaces: [
    { name: 'veth0', mac: '02:00:00:00:00:01' },
    { name: 'eth0', mac: '02:00:00:00:00:02', sandbox: '/run/netns/x' },
  ],
  ips: [
    { interface: 1, address: '10.244.1.7/32', gateway: '169.254.1.1' },
    { interface: 1, address: 'FD98:244:1::7/128' },
    { interface: 0, address: '10.0.0.1/24' },
  ],
  routes: [{ dst: '0.0.0.0/0' }],
  dns: {},
}

export function pluginConfig(socket: string, change: Record<string, unknown> = {}): string {
  return JSON.stringify(
    {
      cniVersion: '1.0.0',
      name: 'lab',
      type: 'ambit-cni',
      socket,
      excludeNamespaces: ['kube-system', 'ambit-system'],
      timeoutMs: 2000,
      prevResult: PREVIOUS_RESULT,
      ...change,
    },
    undefined,
    2,
  )
}
