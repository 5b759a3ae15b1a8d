// SPDX-License-Identifier: Apache-2.0
// HBONE against two haproxy mutual-TLS relays on the same path, interleaved: requests/s at 64 connections
// (wrk -> relay -> relay -> HTTP server), one bulk stream (iperf3), and new connections/s.
// node bench/hbone-relays.ts [--rounds N] [--seconds N] [--json FILE] [--only requests|stream|connections]

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs, promisify } from 'node:util'
import type { WorkloadCertificate } from '../mesh/identity/types.ts'
import { makeCertificate, makeRoot, testIdentity } from '../test/hbone/certs.ts'
import type { RelaySettings } from './hbone-relay.ts'
import { writeApp, writeRivals } from './hbone-rival.ts'

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '3' },
    json: { type: 'string' },
    only: { type: 'string' },
    'cpu-prof': { type: 'string' },
  },
})
const rounds = Number(flags.rounds)
const seconds = Number(flags.seconds)
const run = promisify(execFile)
const folder = mkdtempSync(join(tmpdir(), 'ambit-bench-'))
const children: ChildProcess[] = []

try {
  const root = await makeRoot()
  const client = await makeCertificate(root, testIdentity('client'))
  const server = await makeCertificate(root, testIdentity('server'))
  const results: Record<string, unknown> = {}
  for (const bytes of [64, 1024]) {
    if (flags.only && flags.only !== 'requests') continue
    const app = await freePort()
    await haproxy(writeApp(folder, app, bytes), app)
    const paths = await makePaths(app, client, server)
    results[`requests-${bytes}B`] = await compare(
      `requests/s, 64 connections, ${bytes} B`,
      paths,
      wrk,
    )
    results[`requests-1conn-${bytes}B`] = await compare(
      `requests/s, 1 connection, ${bytes} B`,
      paths,
      (p) => wrk(p, 1),
    )
  }
  if (!flags.only || flags.only === 'connections') {
    const app = await freePort()
    await haproxy(writeApp(folder, app, 64), app)
    const paths = await makePaths(app, client, server)
    results['connections'] = await compare('new connections/s, 16 at once', paths, (p) =>
      wrk(p, 16, true),
    )
  }
  if (!flags.only || flags.only === 'stream') {
    const app = await freePort()
    await start('iperf3', ['-s', '-p', String(app)], app)
    const paths = await makePaths(app, client, server)
    results['stream-up'] = await compare('one stream, client to server, Gbit/s', paths, (p) =>
      iperf(p, []),
    )
    results['stream-down'] = await compare('one stream, server to client, Gbit/s', paths, (p) =>
      iperf(p, ['-R']),
    )
  }
  if (flags.json) writeFileSync(flags.json, `${JSON.stringify(results, null, 2)}\n`)
} finally {
  for (const child of children) child.kill()
  for (const child of children)
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  rmSync(folder, { recursive: true })
}

/** A path's entry port, and the processes that make it up. */
interface Path {
  readonly port: number
  readonly pids: readonly number[]
}

interface Paths {
  readonly ambit: Path
  readonly haproxy: Path
  readonly direct: Path
}

type Measure = (port: number) => Promise<number>

async function makePaths(
  app: number,
  client: WorkloadCertificate,
  server: WorkloadCertificate,
): Promise<Paths> {
  const [plain, secured] = [await freePort(), await freePort()]
  const rival = writeRivals(
    join(folder, String(app)),
    { plain, secured, upstream: app },
    client,
    server,
  )
  const rivals = [await haproxy(rival.inbound, secured), await haproxy(rival.outbound, plain)]
  const inbound = await relay({
    role: 'inbound',
    certificate: server,
    peerIdentity: client.identity,
    upstreamPort: app,
  })
  const outbound = await relay({
    role: 'outbound',
    certificate: client,
    peerIdentity: server.identity,
    upstreamPort: inbound.port,
  })
  return {
    ambit: { port: outbound.port, pids: [inbound.pid, outbound.pid] },
    haproxy: { port: plain, pids: rivals },
    direct: { port: app, pids: [] },
  }
}

async function compare(name: string, paths: Paths, measure: Measure): Promise<unknown> {
  const names = ['ambit', 'haproxy', 'direct'] as const
  const samples = { ambit: [] as number[], haproxy: [] as number[], direct: [] as number[] }
  const cpu = { ambit: [] as number[], haproxy: [] as number[], direct: [] as number[] }
  for (let round = 0; round < rounds; round += 1)
    for (const path of names) {
      const before = cpuSeconds(paths[path].pids)
      const rate = await measure(paths[path].port)
      samples[path].push(rate)
      cpu[path].push((cpuSeconds(paths[path].pids) - before) / (rate * seconds))
    }
  const ratios = samples.ambit.map((value, i) => value / (samples.haproxy[i] ?? Number.NaN))
  // What the relays themselves burn per unit of work: holds on a busy machine, where the rates do not.
  const cpuRatios = cpu.haproxy.map((value, i) => value / (cpu.ambit[i] ?? Number.NaN))
  const rates = names.map((path) => `${path} ${median(samples[path]).toFixed(1)}`).join(', ')
  console.log(
    `${name}: ${median(ratios).toFixed(2)}x of haproxy's rate (${rates}); ` +
      `${median(cpuRatios).toFixed(2)}x of its work per relay CPU second (us each: ambit ${(median(cpu.ambit) * 1e6).toFixed(1)}, haproxy ${(median(cpu.haproxy) * 1e6).toFixed(1)})`,
  )
  return { ratio: median(ratios), cpuRatio: median(cpuRatios), samples, cpu }
}

/** CPU time of all threads of these processes, from the scheduler. */
function cpuSeconds(pids: readonly number[]): number {
  let nanoseconds = 0
  for (const pid of pids)
    for (const task of readdirSync(`/proc/${pid}/task`))
      nanoseconds += Number(
        readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0],
      )
  return nanoseconds / 1e9
}

async function wrk(port: number, connections = 64, isClosing = false): Promise<number> {
  const args = [
    '-t1',
    `-c${connections}`,
    `-d${seconds}s`,
    ...(isClosing ? ['-H', 'Connection: close'] : []),
  ]
  const { stdout } = await run('wrk', [...args, `http://127.0.0.1:${port}/`])
  const errors = /Socket errors:.*/.exec(stdout)?.[0]
  if (errors && !isClosing) console.log(`  ${port}: ${errors}`)
  return Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1])
}

async function iperf(port: number, args: readonly string[]): Promise<number> {
  const { stdout } = await run('iperf3', [
    '-c',
    '127.0.0.1',
    '-p',
    String(port),
    '-t',
    String(seconds),
    '-J',
    ...args,
  ])
  const report = JSON.parse(stdout) as {
    readonly error?: string
    readonly end: { readonly sum_received?: { readonly bits_per_second: number } }
  }
  const received = report.end.sum_received
  if (received === undefined) throw new Error(`iperf3: ${report.error ?? 'no result'}`)
  return received.bits_per_second / 1e9
}

async function relay(
  settings: RelaySettings,
): Promise<{ readonly port: number; readonly pid: number }> {
  const profile = flags['cpu-prof']
    ? [
        '--cpu-prof',
        `--cpu-prof-dir=${flags['cpu-prof']}`,
        `--cpu-prof-name=${settings.role}-${settings.upstreamPort}.cpuprofile`,
      ]
    : []
  const child = spawn(
    process.execPath,
    [...profile, join(import.meta.dirname, 'hbone-relay.ts'), JSON.stringify(settings)],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  )
  children.push(child)
  if (profile.length > 0) child.kill = () => child.stdin?.end() !== undefined
  for await (const line of createInterface({ input: child.stdout })) {
    const port = /^ready (\d+)$/.exec(line)?.[1]
    if (port !== undefined) return { port: Number(port), pid: child.pid ?? 0 }
  }
  throw new Error('the relay ended before it was ready')
}

function haproxy(config: string, port: number): Promise<number> {
  return start('haproxy', ['-db', '-f', config], port)
}

async function start(command: string, args: readonly string[], port: number): Promise<number> {
  const child = spawn(command, args, { stdio: 'ignore' })
  children.push(child)
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const socket = connect(port, '127.0.0.1')
    const isUp = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    })
    socket.destroy()
    if (isUp) return child.pid ?? 0
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`${command} does not listen on ${port}`)
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  return port
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}
