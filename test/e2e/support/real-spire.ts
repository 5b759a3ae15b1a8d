// SPDX-License-Identifier: Apache-2.0
// SPIRE's own server and agent, for the tests that want the real ones. They share a network namespace of their own, and the test has their
// sockets.

import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { command, tryCommand } from '../../../lab/machine/command.ts'
import { findProgram } from '../../../lab/machine/find-program.ts'
import type { TestCa } from '../../identity/pki.ts'
import { until } from '../../support/until.ts'

/** Names the directory with the programs. Without it they are looked for on PATH. */
const DIRECTORY_VARIABLE = 'AMBIT_SPIRE_BIN'
const PROGRAMS = ['spire-server', 'spire-agent'] as const
type Program = (typeof PROGRAMS)[number]

/** Of the one agent. */
const NODE = 'spiffe://cluster.local/node'
/** So that SVIDs are renewed while a test looks on. SPIRE does it at half of their life. */
const SVID_TTL = '40s'
/** Of its agent's own, which would be as short: an agent that misses one renewal of it, on a busy machine, ends for good. */
const AGENT_TTL = '1h'

export interface Spire {
  /** As flags have it: unix:///PATH. */
  readonly adminSocket: string
  readonly workloadApiSocket: string
  /** Makes a registration entry. */
  entry(identity: string, selectors: readonly string[]): Promise<void>
  /** Resolves when its agent can give somebody, whoever that is to be, this identity by the Workload API. */
  known(identity: string): Promise<void>
}

/** For tap's `skip` option: what of SPIRE this machine does not have. */
export function missingSpire(): string | false {
  const absent = PROGRAMS.filter((name) => find(name) === undefined)
  return (
    absent.length > 0 &&
    `no ${absent.join(', ')} in ${DIRECTORY_VARIABLE} or on PATH (CONTRIBUTING, "With SPIRE")`
  )
}

function find(name: Program): string | undefined {
  return findProgram(name, { before: process.env[DIRECTORY_VARIABLE] })
}

/** Starts server and agent, whose authority `root` signs; they end with the test. `delegate` may have others' identities. */
export async function startSpire(t: Test, root: TestCa, delegate: string): Promise<Spire> {
  // Short: a socket's path may have 107 bytes.
  const directory = mkdtempSync(join(tmpdir(), 'ambit-spire-'))
  const at = (name: string): string => join(directory, name)
  const running = new Map<Program, ChildProcess>()
  const logOf = (name: Program): string =>
    `${name} ended: ${readFileSync(at(`${name}.log`), 'utf8')}`
  t.teardown(async () => {
    const logs = [...running].flatMap(([name, child]) => (hasEnded(child) ? [logOf(name)] : []))
    for (const child of [...running.values()].toReversed()) await end(child)
    rmSync(directory, { recursive: true, force: true })
    // Whatever else the test says, it is this that it says.
    if (logs.length > 0) throw new Error(logs.join('\n'))
  })
  const start = (name: Program, wrapper: readonly string[], args: readonly string[]): void => {
    const log = openSync(at(`${name}.log`), 'a')
    const argv = ['--pdeathsig', 'KILL', ...wrapper, find(name) ?? name, ...args]
    running.set(name, spawn('setpriv', argv, { stdio: ['ignore', log, log] }))
  }
  const healthy = async (name: Program, socket: string): Promise<void> => {
    const argv = [find(name) ?? name, 'healthcheck', '-socketPath', socket]
    await until(async () => {
      if (hasEnded(running.get(name))) throw new Error(logOf(name))
      return (await tryCommand(argv)).code === 0
    }, `${name} to be healthy`)
  }
  const server = async (...args: readonly string[]): Promise<string> =>
    await command([
      ...[find('spire-server') ?? '', ...args.slice(0, 2)],
      ...['-socketPath', at('server.sock'), ...args.slice(2)],
    ])

  mkdirSync(at('server'))
  mkdirSync(at('agent'))
  writeFileSync(at('root.pem'), root.pem)
  writeFileSync(at('root-key.pem'), root.keyPem)
  writeFileSync(at('server.conf'), serverConfig(directory))
  writeFileSync(at('agent.conf'), agentConfig(directory, delegate))
  const inside = ['unshare', '--net', '--', 'sh', '-c', 'ip link set lo up && exec "$@"', 'spire']
  start('spire-server', inside, ['run', '-config', at('server.conf')])
  await healthy('spire-server', at('server.sock'))
  const token = /Token: (\S+)/.exec(await server('token', 'generate', '-spiffeID', NODE))?.[1]
  if (token === undefined) throw new Error('SPIRE gives no token for its agent')
  const { pid } = running.get('spire-server') ?? {}
  const beside = ['nsenter', `--net=/proc/${String(pid)}/ns/net`, '--']
  start('spire-agent', beside, ['run', '-config', at('agent.conf'), '-joinToken', token])
  await healthy('spire-agent', at('public/api.sock'))
  return {
    adminSocket: `unix://${at('private/admin.sock')}`,
    workloadApiSocket: `unix://${at('public/api.sock')}`,
    entry: async (identity, selectors) => {
      const flags = selectors.flatMap((selector) => ['-selector', selector])
      await server('entry', 'create', '-parentID', NODE, '-spiffeID', identity, ...flags)
    },
    known: async (identity) => {
      const program = find('spire-agent') ?? ''
      const argv = [program, 'api', 'fetch', 'x509', '-socketPath', at('public/api.sock')]
      const told = async (): Promise<boolean> =>
        (await tryCommand(argv)).stdout.includes(`${identity}\n`)
      await until(told, `SPIRE's agent to know ${identity}`)
    },
  }
}

function hasEnded(child: ChildProcess | undefined): boolean {
  return child?.exitCode !== null || child.signalCode !== null
}

async function end(child: ChildProcess): Promise<void> {
  if (hasEnded(child)) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  await exited
}

function serverConfig(directory: string): string {
  return `server {
  bind_address = "127.0.0.1"
  bind_port = "8081"
  socket_path = "${directory}/server.sock"
  trust_domain = "cluster.local"
  data_dir = "${directory}/server"
  default_x509_svid_ttl = "${SVID_TTL}"
  agent_ttl = "${AGENT_TTL}"
}
plugins {
  DataStore "sql" {
    plugin_data { database_type = "sqlite3" connection_string = "${directory}/server/entries" }
  }
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "memory" { plugin_data {} }
  UpstreamAuthority "disk" {
    plugin_data { cert_file_path = "${directory}/root.pem" key_file_path = "${directory}/root-key.pem" }
  }
}
`
}

function agentConfig(directory: string, delegate: string): string {
  return `agent {
  data_dir = "${directory}/agent"
  server_address = "127.0.0.1"
  server_port = "8081"
  socket_path = "${directory}/public/api.sock"
  admin_socket_path = "${directory}/private/admin.sock"
  authorized_delegates = ["${delegate}"]
  insecure_bootstrap = true
  trust_domain = "cluster.local"
}
plugins {
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "memory" { plugin_data {} }
  WorkloadAttestor "unix" { plugin_data {} }
}
`
}
