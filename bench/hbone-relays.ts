// SPDX-License-Identifier: Apache-2.0
// HBONE against two haproxy mutual-TLS relays on the same path, interleaved: requests/s at 64 connections
// (wrk -> relay -> relay -> HTTP server), one bulk stream (iperf3), and new connections/s.
// node bench/hbone-relays.ts [--rounds N] [--seconds N] [--json FILE] [--only requests|stream|connections] [--against DIR]
// --against: the rival is another checkout of ours, with its node_modules: what a change costs.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { WorkloadCertificate } from '../mesh/identity/types.ts'
import { makeCertificate, makeRoot, testIdentity } from '../test/hbone/certs.ts'
import type { RelaySettings } from './hbone-relay.ts'
import { writeApp, writeRivals } from './hbone-rival.ts'
import {
  comparePaths,
  connects,
  freePort,
  type LoopbackPath,
  Programs,
  requests,
  stream,
} from './loopback.ts'

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '3' },
    json: { type: 'string' },
    only: { type: 'string' },
    'cpu-prof': { type: 'string' },
    against: { type: 'string' },
  },
})
const settings = { rounds: Number(flags.rounds), seconds: Number(flags.seconds) }
const folder = mkdtempSync(join(tmpdir(), 'ambit-bench-'))
const programs = new Programs()

try {
  const root = await makeRoot()
  const client = await makeCertificate(root, testIdentity('client'))
  const server = await makeCertificate(root, testIdentity('server'))
  const results: Record<string, unknown> = {}
  for (const bytes of [64, 1024]) {
    if (flags.only && flags.only !== 'requests') continue
    const app = await httpServer(bytes)
    const paths = await makePaths(app, client, server)
    for (const count of [64, 1])
      results[`requests-${count}conn-${bytes}B`] = await comparePaths(
        `requests/s, ${count} connection${count === 1 ? '' : 's'}, ${bytes} B`,
        paths,
        requests(count),
        settings,
      )
  }
  if (!flags.only || flags.only === 'connections') {
    const paths = await makePaths(await httpServer(64), client, server)
    results['connections'] = await comparePaths(
      'new connections/s, 16 at once',
      paths,
      connects(16),
      settings,
    )
  }
  if (!flags.only || flags.only === 'stream') {
    const app = await freePort()
    await programs.listening('iperf3', ['-s', '-p', String(app)], app)
    const paths = await makePaths(app, client, server)
    for (const count of [1, 8])
      for (const isReverse of [false, true])
        results[`streams-${count}-${isReverse ? 'down' : 'up'}`] = await comparePaths(
          `streams: ${count}, ${isReverse ? 'server to client' : 'client to server'}, Gbit/s`,
          paths,
          stream(isReverse, count),
          settings,
        )
  }
  if (flags.json) writeFileSync(flags.json, `${JSON.stringify(results, null, 2)}\n`)
} finally {
  await programs.stop()
  rmSync(folder, { recursive: true })
}

/** Starts haproxy as an HTTP server that answers each request with `bytes` bytes. */
async function httpServer(bytes: number): Promise<number> {
  const port = await freePort()
  await haproxy(writeApp(folder, port, bytes), port)
  return port
}

async function makePaths(
  app: number,
  client: WorkloadCertificate,
  server: WorkloadCertificate,
): Promise<Readonly<Record<string, LoopbackPath>>> {
  const ambit = await makeRelays(join(import.meta.dirname, '..'), app, client, server)
  if (flags.against !== undefined)
    return { ambit, other: await makeRelays(flags.against, app, client, server) }
  const [plain, secured] = [await freePort(), await freePort()]
  const rival = writeRivals(
    join(folder, String(app)),
    { plain, secured, upstream: app },
    client,
    server,
  )
  const rivals = [await haproxy(rival.inbound, secured), await haproxy(rival.outbound, plain)]
  return {
    ambit,
    haproxy: { port: plain, pids: rivals },
    direct: { port: app, pids: [] },
  }
}

/** The relays of the checkout in `root`. */
async function makeRelays(
  root: string,
  app: number,
  client: WorkloadCertificate,
  server: WorkloadCertificate,
): Promise<LoopbackPath> {
  const inbound = await relay(root, {
    role: 'inbound',
    certificate: server,
    peerIdentity: client.identity,
    upstreamPort: app,
  })
  const outbound = await relay(root, {
    role: 'outbound',
    certificate: client,
    peerIdentity: server.identity,
    upstreamPort: inbound.port,
  })
  return { port: outbound.port, pids: [...inbound.pids, ...outbound.pids] }
}

function relay(root: string, relaySettings: RelaySettings): Promise<LoopbackPath> {
  const profile = flags['cpu-prof']
    ? [
        '--cpu-prof',
        `--cpu-prof-dir=${flags['cpu-prof']}`,
        `--cpu-prof-name=${relaySettings.role}-${relaySettings.upstreamPort}.cpuprofile`,
      ]
    : []
  const program = join(root, 'bench/hbone-relay.ts')
  return programs.node([...profile, program, JSON.stringify(relaySettings)])
}

function haproxy(config: string, port: number): Promise<number> {
  return programs.listening('haproxy', ['-db', '-f', config], port)
}
