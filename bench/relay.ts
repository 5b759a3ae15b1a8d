// SPDX-License-Identifier: Apache-2.0
// The plain relay (same node, pass-through) against no relay and against haproxy in TCP mode, interleaved, on
// loopback. With --against FILE the relay of another checkout takes part, its test/support/relay.ts: how a change is judged.
// node bench/relay.ts [--rounds N] [--seconds N] [--json FILE] [--only NAME ...] [--against FILE] [--cpu-prof DIR]

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { writeApp, writeTcpRival } from './hbone-rival.ts'
import {
  comparePaths,
  connects,
  freePort,
  type LoopbackPath,
  type Measure,
  Programs,
  requests,
  stream,
} from './loopback.ts'

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '3' },
    json: { type: 'string' },
    only: { type: 'string', multiple: true },
    against: { type: 'string' },
    'cpu-prof': { type: 'string' },
  },
})
const settings = { rounds: Number(flags.rounds), seconds: Number(flags.seconds) }
const folder = mkdtempSync(join(tmpdir(), 'ambit-bench-'))
const programs = new Programs()
const profile = flags['cpu-prof'] ? ['--cpu-prof', `--cpu-prof-dir=${flags['cpu-prof']}`] : []

const MEASUREMENTS: readonly (readonly [name: string, app: 'http' | 'iperf', Measure])[] = [
  ['requests', 'http', requests(64)],
  ['requests-1-connection', 'http', requests(1)],
  ['connections', 'http', connects(16)],
  ['stream-up', 'iperf', stream(false)],
  ['stream-down', 'iperf', stream(true)],
]

try {
  const results: Record<string, unknown> = {}
  const ports = { http: await freePort(), iperf: await freePort() }
  await programs.listening('haproxy', ['-db', '-f', writeApp(folder, ports.http, 64)], ports.http)
  await programs.listening('iperf3', ['-s', '-p', String(ports.iperf)], ports.iperf)
  const paths = { http: await makePaths(ports.http), iperf: await makePaths(ports.iperf) }
  for (const [name, app, measure] of MEASUREMENTS)
    if (flags.only === undefined || flags.only.includes(name))
      results[name] = await comparePaths(name, paths[app], measure, settings)
  if (flags.json) writeFileSync(flags.json, `${JSON.stringify(results, null, 2)}\n`)
} finally {
  await programs.stop()
  rmSync(folder, { recursive: true })
}

async function makePaths(app: number): Promise<Readonly<Record<string, LoopbackPath>>> {
  const rivalPort = await freePort()
  const rival = writeTcpRival(join(folder, `tcp-${app}.cfg`), rivalPort, app)
  const rivalPid = await programs.listening('haproxy', ['-db', '-f', rival], rivalPort)
  const relay = join(import.meta.dirname, 'relay-process.ts')
  return {
    ambit: await programs.node([...profile, relay, String(app)]),
    direct: { port: app, pids: [] },
    haproxy: { port: rivalPort, pids: [rivalPid] },
    ...(flags.against && { against: await programs.node([relay, String(app), flags.against]) }),
  }
}
