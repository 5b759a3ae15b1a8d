// SPDX-License-Identifier: Apache-2.0
// What the loopback benches share: programs as child processes, paths that take turns, and CPU time per unit of work,
// which holds on a busy machine where the rates do not.

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, readdirSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { iperfCommand, parseIperf, parseWrk, wrkCommand, wrkConnectCommand } from './load.ts'
import { ratios, spread } from './statistics.ts'

/** A path's entry port, and the processes that make it up. */
export interface LoopbackPath {
  readonly port: number
  readonly pids: readonly number[]
}

/** Units of work per second through the port. */
export type Measure = (port: number, seconds: number) => Promise<number>

const run = promisify(execFile)

/** iperf3's server takes the next client only when it is done with the last, some time after that one's end. */
const IPERF_REST_MS = 300

async function output([program = '', ...args]: readonly string[]): Promise<string> {
  return (await run(program, args)).stdout
}

/** Requests per second over so many connections. */
export const requests =
  (connections: number): Measure =>
  async (port, seconds) =>
    parseWrk(await output(wrkCommand(`http://127.0.0.1:${port}/`, connections, seconds)))

/** New connections per second, one request each. */
export const connects =
  (connections: number): Measure =>
  async (port, seconds) =>
    parseWrk(await output(wrkConnectCommand(`http://127.0.0.1:${port}/`, connections, seconds)))

/** So many TCP streams at once, Gbit/s in all. */
export const stream =
  (isReverse: boolean, streams = 1): Measure =>
  async (port, seconds) => {
    const command = iperfCommand('127.0.0.1', port, seconds, streams)
    const rate = parseIperf(await output(isReverse ? [...command, '-R'] : command)) / 1e9
    await new Promise((resolve) => setTimeout(resolve, IPERF_REST_MS))
    return rate
  }

/** The programs of one bench; `stop` ends them all. */
export class Programs {
  readonly #children: ChildProcess[] = []

  /** Starts a program that listens on `port`; resolves with its pid once it does. */
  async listening(command: string, args: readonly string[], port: number): Promise<number> {
    const child = spawn(command, args, { stdio: 'ignore' })
    this.#children.push(child)
    for (let attempt = 0; attempt < 100; attempt += 1) {
      if (await isListening(port)) return child.pid ?? 0
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    throw new Error(`${command} does not listen on ${port}`)
  }

  /** Starts a Node program that prints `ready PORT`; it ends when its stdin does. */
  async node(args: readonly string[]): Promise<LoopbackPath> {
    const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    child.kill = () => child.stdin.end() !== undefined
    this.#children.push(child)
    return await readyPath(args, child, child.stdout)
  }

  /** The same of one that writes much to its standard output, which goes nowhere, and says so on descriptor 3. */
  async quietNode(args: readonly string[]): Promise<LoopbackPath> {
    const child = spawn(process.execPath, args, { stdio: ['pipe', 'ignore', 'inherit', 'pipe'] })
    child.kill = () => child.stdin?.end() !== undefined
    this.#children.push(child)
    return await readyPath(args, child, child.stdio[3] as Readable)
  }

  async stop(): Promise<void> {
    for (const child of this.#children) child.kill()
    for (const child of this.#children)
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  }
}

async function readyPath(
  args: readonly string[],
  { pid = 0 }: ChildProcess,
  input: Readable,
): Promise<LoopbackPath> {
  for await (const line of createInterface({ input })) {
    const port = /^ready (\d+)$/.exec(line)?.[1]
    if (port !== undefined) return { port: Number(port), pids: [pid] }
  }
  // Not its settings: there are keys among them.
  throw new Error(`${args.find((each) => each.endsWith('.ts'))} ended before it was ready`)
}

/** Measures all paths in turn, `rounds` times; the first is ours. Prints medians and ratios. */
export async function comparePaths(
  name: string,
  paths: Readonly<Record<string, LoopbackPath>>,
  measure: Measure,
  { rounds, seconds }: { readonly rounds: number; readonly seconds: number },
): Promise<unknown> {
  const names = Object.keys(paths)
  const samples: Record<string, number[]> = {}
  const cpu: Record<string, number[]> = {}
  for (let round = 0; round < rounds; round += 1)
    for (const [path, { port, pids }] of Object.entries(paths)) {
      const before = cpuSeconds(pids)
      const rate = await measure(port, seconds)
      ;(samples[path] ??= []).push(rate)
      ;(cpu[path] ??= []).push(((cpuSeconds(pids) - before) / (rate * seconds)) * 1e6)
    }
  const [ours = '', ...others] = names
  const medians = names.map(
    (path) =>
      `${path} ${spread(samples[path] ?? []).median.toFixed(1)} (${spread(cpu[path] ?? []).median.toFixed(1)} us)`,
  )
  const compared = Object.fromEntries(
    others.map((path) => [path, spread(ratios(samples[ours] ?? [], samples[path] ?? []))]),
  )
  // Work per CPU second of the relays: holds on a busy machine, where the rates do not.
  const cpuCompared = Object.fromEntries(
    others
      .filter((path) => (paths[path]?.pids.length ?? 0) > 0)
      .map((path) => [path, spread(ratios(cpu[path] ?? [], cpu[ours] ?? []))]),
  )
  const shown = Object.entries(compared).map(([path, { median, lower, upper }]) => {
    const work = cpuCompared[path]
    const perCpu = work === undefined ? '' : ` (${work.median.toFixed(2)}x per CPU second)`
    return `${median.toFixed(2)}x of ${path} [${lower.toFixed(2)} ${upper.toFixed(2)}]${perCpu}`
  })
  console.log(`${name}: ${shown.join(', ')}; ${medians.join(', ')}`)
  return { ratios: compared, cpuRatios: cpuCompared, samples, cpu }
}

/** CPU time of all threads of these processes, from the scheduler. */
export function cpuSeconds(pids: readonly number[]): number {
  let nanoseconds = 0
  for (const pid of pids)
    for (const task of readdirSync(`/proc/${pid}/task`))
      nanoseconds += Number(
        readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0],
      )
  return nanoseconds / 1e9
}

async function isListening(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  const isUp = await new Promise<boolean>((resolve) => {
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
  })
  socket.destroy()
  return isUp
}

export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  return port
}
