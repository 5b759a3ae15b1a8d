// SPDX-License-Identifier: Apache-2.0
// The controller as a process of its own, as a pod runs it.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { SmallCluster, TestScope } from './small-cluster.ts'

/** Runs the real program. */
export function runController(
  t: TestScope,
  cluster: SmallCluster,
): {
  readonly process: ReturnType<typeof spawn>
  readonly exit: Promise<unknown[]>
  output(): string
  logged(message: string): Promise<void>
} {
  const main = new URL('../../controller/main.ts', import.meta.url).href
  const program = `const { main } = await import(${JSON.stringify(main)}); await main(process.argv.slice(1))`
  const child = spawn(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      program,
      '--',
      '--kubeconfig',
      cluster.kubeconfig,
      '--listen',
      '127.0.0.1:0',
      '--admin-address',
      '127.0.0.1:0',
      '--health-address',
      '127.0.0.1:0',
      '--log-level',
      'info',
    ],
    { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, LOG_LEVEL: 'info' } },
  )
  const exit = once(child, 'exit')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exit
  })
  let output = ''
  const waiting = new Set<() => void>()
  child.stdout?.on('data', (chunk: Buffer) => {
    output += chunk.toString()
    for (const look of waiting) look()
  })
  return {
    process: child,
    exit,
    output: () => output,
    logged: (message) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          if (!output.includes(`"msg":"${message}"`)) return
          waiting.delete(look)
          resolve()
        }
        waiting.add(look)
        look()
        void exit.then(() => reject(new Error(`ended before it logged "${message}":\n${output}`)))
      }),
  }
}
