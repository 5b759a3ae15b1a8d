// SPDX-License-Identifier: Apache-2.0
// The controller of a source tree as it is run in a cluster, over an API server on loopback. The inspector is asked for its memory, so
// any tree can be measured.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

const READY_DEADLINE_MS = 300_000
const COLLECTIONS = 4

export interface Memory {
  readonly heapUsed: number
  readonly external: number
  readonly arrayBuffers: number
}

export interface ControllerProcessOptions {
  readonly tree: string
  readonly apiServerPort: number
  /** The port for discovery and certificates; any, where none is said. */
  readonly port?: number
  /** Where to write a CPU profile when it is told to end. */
  readonly profileTo?: string | undefined
}

/** A controller that runs; dispose() ends it. */
export class ControllerProcess implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #directory: string
  readonly #exited: Promise<unknown>
  readonly #started = Promise.withResolvers<number>()
  readonly #inspected = Promise.withResolvers<string>()
  readonly #failed: Promise<never>
  #inspector: Inspector | undefined
  #output = ''

  constructor({ tree, apiServerPort, port = 0, profileTo }: ControllerProcessOptions) {
    this.#directory = mkdtempSync(join(tmpdir(), 'ambit-bench-controller-'))
    const kubeconfig = join(this.#directory, 'kubeconfig')
    writeFileSync(
      kubeconfig,
      JSON.stringify({
        'current-context': 'c',
        contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
        clusters: [{ name: 'c', cluster: { server: `http://127.0.0.1:${apiServerPort}` } }],
        users: [{ name: 'u', user: {} }],
      }),
    )
    const any = '127.0.0.1:0'
    this.#child = spawn(
      process.execPath,
      [
        '--inspect=127.0.0.1:0',
        ...(profileTo === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profileTo}`]),
        join(tree, 'cli/main.ts'),
        ...['controller', '--kubeconfig', kubeconfig, '--listen', `127.0.0.1:${port}`],
        ...['--health-address', any, '--admin-address', any, '--log-level', 'info'],
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    )
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.on('data', (chunk: Buffer) => this.#read(chunk.toString()))
    this.#exited = once(this.#child, 'exit')
    // Also when the bench is interrupted.
    process.once('exit', () => {
      this.#child.kill('SIGKILL')
      rmSync(this.#directory, { recursive: true, force: true })
    })
    const deadline = delay(READY_DEADLINE_MS, 'was not ready in time', { ref: false })
    this.#failed = Promise.race([this.#exited.then(() => 'ended'), deadline]).then((how) => {
      throw new Error(`the controller ${how}:\n${this.#output}`)
    })
    // Only who still waits for it wants to know.
    this.#failed.catch(() => undefined)
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  /** Its port for discovery and certificates, once it serves. */
  started(): Promise<number> {
    return Promise.race([this.#started.promise, this.#failed])
  }

  /** What is left after full garbage collections. */
  async memory(): Promise<Memory> {
    this.#inspector ??= await Inspector.open(
      await Promise.race([this.#inspected.promise, this.#failed]),
    )
    return this.#inspector.memory()
  }

  /** Resident kilobytes now, and at the most since it began. */
  resident(): { readonly nowKb: number; readonly mostKb: number } {
    const status = readFileSync(`/proc/${this.pid}/status`, 'utf8')
    const read = (field: string): number =>
      Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? Number.NaN)
    return { nowKb: read('VmRSS'), mostKb: read('VmHWM') }
  }

  /** Milliseconds of CPU of all its threads since it began. */
  cpuMs(): number {
    const fields = readFileSync(`/proc/${this.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
    const ticks = Number(fields[11]) + Number(fields[12])
    return ticks * 10
  }

  /** Ends it as a kubelet does, or at once. */
  async end(signal: 'SIGTERM' | 'SIGKILL' = 'SIGKILL'): Promise<void> {
    this.#inspector?.close()
    this.#inspector = undefined
    this.#child.kill(signal)
    await this.#exited
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end()
    rmSync(this.#directory, { recursive: true, force: true })
  }

  #read(text: string): void {
    this.#output += text
    const url = /Debugger listening on (ws:\/\/\S+)/.exec(this.#output)?.[1]
    if (url !== undefined) this.#inspected.resolve(url)
    const port = /"grpcPort":(\d+).*"controller started"/.exec(this.#output)?.[1]
    if (port !== undefined) this.#started.resolve(Number(port))
  }
}

/** Asks the inspector of a process. */
class Inspector {
  readonly #socket: WebSocket
  readonly #waiting = new Map<number, (result: unknown) => void>()
  #last = 0

  private constructor(socket: WebSocket) {
    this.#socket = socket
    socket.addEventListener('message', ({ data }) => {
      const { id, result } = JSON.parse(String(data)) as { id?: number; result?: unknown }
      if (id !== undefined) this.#waiting.get(id)?.(result)
    })
  }

  static async open(url: string): Promise<Inspector> {
    const socket = new WebSocket(url)
    await once(socket, 'open')
    return new Inspector(socket)
  }

  async memory(): Promise<Memory> {
    for (let round = 0; round < COLLECTIONS; round += 1)
      await this.#call('HeapProfiler.collectGarbage', {})
    const answer = await this.#call('Runtime.evaluate', {
      expression: 'process.memoryUsage()',
      returnByValue: true,
    })
    return (answer as { result: { value: Memory } }).result.value
  }

  close(): void {
    this.#socket.close()
  }

  #call(method: string, params: object): Promise<unknown> {
    this.#last += 1
    const { promise, resolve } = Promise.withResolvers<unknown>()
    this.#waiting.set(this.#last, resolve)
    this.#socket.send(JSON.stringify({ id: this.#last, method, params }))
    return promise
  }
}
