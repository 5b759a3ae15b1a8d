// SPDX-License-Identifier: Apache-2.0
// How far the control plane scales: a controller as a process, over an API server with a large cluster, and agents that speak the real
// protocol to it (delta discovery by gRPC over TLS, a token, an address and a stream each) and keep nothing. How long until the first and
// until all have everything, until one change is at every agent, until all are served again after the controller was killed; its CPU and
// memory, and the watches that the API server sees. Agents, API server and controller share the machine.
// By itself: node bench/scale.ts [--agents N] [--workloads N] [--services N] [--policies N] [--rounds N] [--profile DIRECTORY] [--tree DIRECTORY]

import { type ChildProcess, fork } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Pod, TokenReview } from '../mesh/kube/index.ts'
import { ControllerProcess } from './cluster/controller-process.ts'
import { ListingApiServer, typicalLists } from './cluster/listing-api-server.ts'
import { TypicalObjects } from './cluster/typical-objects.ts'
import { type FromAgents, monotonicMs, type ToAgents } from './scale/messages.ts'
import { quantile } from './statistics.ts'

export interface ScaleOptions {
  readonly agents: number
  readonly workloads: number
  readonly services: number
  readonly policies: number
  /** Changes of each kind. */
  readonly rounds: number
  /** Where to leave CPU profiles of the controller. */
  readonly profile?: string | undefined
  /** Whose controller; this one's, where none is said. */
  readonly tree?: string | undefined
  /** Told of each figure as it is known: a large mesh takes minutes. */
  readonly onFigure?: (name: string, value: number) => void
}

/** What `npm run bench -- --only scale` measures unless it is told otherwise. */
export const SCALE_DEFAULTS: ScaleOptions = {
  agents: 50,
  workloads: 5_000,
  services: 500,
  policies: 50,
  rounds: 5,
}

const NAMESPACES = 50
const SYSTEM = 'ambit-system'
const SERVER_NAME = `ambit-controller.${SYSTEM}.svc`
const KB_PER_MB = 1024

/** The figures, in milliseconds and megabytes where their names say nothing else. */
export async function measureScale(
  options: ScaleOptions,
): Promise<Readonly<Record<string, number>>> {
  const { agents, workloads, services, policies, rounds, profile } = options
  const tree = options.tree ?? join(import.meta.dirname, '..')
  const objects = new TypicalObjects({
    pods: workloads,
    services,
    policies,
    namespaces: NAMESPACES,
    nodes: agents,
  })
  await using api = await startApi(objects, agents)
  const figures: Record<string, number> = {}
  const note = (name: string, value: number): void => {
    figures[name] = value
    options.onFigure?.(name, value)
  }
  for (const [name, value] of Object.entries({ agents, workloads, services, policies }))
    note(name, value)
  let began = monotonicMs()
  await using first = new ControllerProcess({ tree, apiServerPort: api.port, profileTo: profile })
  const port = await first.started()
  await api.server.watched
  await using crowd = new Crowd()
  await crowd.ready
  // Nobody is answered before the lists are in and translated: an agent that only looks says when that is.
  const roots = await api.roots()
  const idle = await first.memory()
  note('controller ready', monotonicMs() - began)
  note('controller ready CPU', first.cpuMs())
  note('idle RSS MB', first.resident().nowKb / KB_PER_MB)
  note('idle heap MB', idle.heapUsed / 1e6)

  let cpu = first.cpuMs()
  began = monotonicMs()
  const full = await crowd.start({ agents, port, roots })
  note('first agent full', Math.min(...full.times) - began)
  note('half of them full', quantile(full.times, 0.5) - began)
  note('all agents full', Math.max(...full.times) - began)
  note('all agents full CPU', first.cpuMs() - cpu)
  note('MB an agent', full.bytes / agents / 1e6)
  note('resources an agent', full.resources / agents)
  note('most RSS MB', first.resident().mostKb / KB_PER_MB)
  const crowded = await first.memory()
  note('RSS MB with agents', first.resident().nowKb / KB_PER_MB)
  note('heap KB an agent', (crowded.heapUsed - idle.heapUsed) / agents / 1e3)
  note('other KB an agent', (crowded.external - idle.external) / agents / 1e3)

  for (const [what, change] of Object.entries(changesOf(objects, api.server))) {
    const medians: number[] = []
    const worst: number[] = []
    cpu = first.cpuMs()
    for (let round = 0; round < rounds; round += 1) {
      const { name, make } = change(round)
      const arrived = await crowd.expect(name)
      began = monotonicMs()
      make()
      const times = (await arrived()).map((time) => time - began)
      medians.push(quantile(times, 0.5))
      worst.push(Math.max(...times))
    }
    note(`${what}, median`, quantile(medians, 0.5))
    note(`${what}, last agent`, quantile(worst, 0.5))
    note(`${what}, worst`, Math.max(...worst))
    note(`${what}, CPU`, (first.cpuMs() - cpu) / rounds)
  }

  const returned = await crowd.expectReturn()
  await first.end(profile === undefined ? 'SIGKILL' : 'SIGTERM')
  await using second = new ControllerProcess({
    tree,
    apiServerPort: api.port,
    port,
    profileTo: profile,
  })
  await second.started()
  began = monotonicMs()
  cpu = second.cpuMs()
  const back = await returned()
  note('back after restart, first', Math.min(...back.times) - began)
  note('back after restart, half', quantile(back.times, 0.5) - began)
  note('back after restart, all', Math.max(...back.times) - began)
  note('back after restart CPU', second.cpuMs() - cpu)
  note('most RSS MB after restart', second.resident().mostKb / KB_PER_MB)
  note('watches of a kind, most', Math.max(...Object.values(api.server.watches())))
  note('kinds watched', Object.values(api.server.watches()).filter((open) => open > 0).length)
  for (const [reason, count] of Object.entries(crowd.ends)) note(`ended: ${reason}`, count)
  if (profile !== undefined) await second.end('SIGTERM')
  return figures
}

interface Api extends AsyncDisposable {
  readonly server: ListingApiServer
  readonly port: number
  readonly roots: () => Promise<string>
}

/** An API server with these objects and the agents' own pods, which says of each agent's token that it is that pod's. */
async function startApi(objects: TypicalObjects, agents: number): Promise<Api> {
  const lists = typicalLists(objects)
  lists.set('/api/v1/pods', {
    count: () => agents + objects.pods,
    make: (index) => (index < agents ? agentPod(index) : objects.pod(index - agents)),
  })
  const server = new ListingApiServer({ lists, review, one: ownPod })
  const port = await server.listen()
  return {
    server,
    port,
    roots: async () => {
      const secret = server.secret(`${SYSTEM}/ambit-ca-secret`)
      const certificate = secret?.data?.['ca-cert.pem']
      if (certificate === undefined) throw new Error('the controller has made no root')
      return Buffer.from(certificate, 'base64').toString()
    },
    [Symbol.asyncDispose]: async () => server.close(),
  }
}

const agentName = (agent: string | number): string => `ambit-agent-${agent}`

function agentPod(index: number): Pod {
  const ip = `172.18.${index >> 8}.${index & 255}`
  return {
    metadata: { name: agentName(index), namespace: SYSTEM, uid: agentName(index) },
    spec: {
      nodeName: `node-${index}`,
      hostNetwork: true,
      serviceAccountName: 'ambit-agent',
      containers: [{ name: 'agent' }],
    },
    status: { phase: 'Running', podIP: ip, podIPs: [{ ip }] },
  }
}

/** A controller that does not know an agent's pod yet asks for it. */
function ownPod(path: string): Pod | undefined {
  const agent = new RegExp(`^/api/v1/namespaces/${SYSTEM}/pods/ambit-agent-(\\d+)$`).exec(path)?.[1]
  return agent === undefined ? undefined : agentPod(Number(agent))
}

function review(token: string): TokenReview['status'] {
  const agent = /^agent-(\d+)$/.exec(token)?.[1]
  if (agent === undefined) return { authenticated: false }
  return {
    authenticated: true,
    audiences: ['istio-ca'],
    user: {
      username: `system:serviceaccount:${SYSTEM}:ambit-agent`,
      extra: {
        'authentication.kubernetes.io/pod-name': [agentName(agent)],
        'authentication.kubernetes.io/pod-uid': [agentName(agent)],
      },
    },
  }
}

interface Change {
  /** Of the resource by which agents learn of it. */
  readonly name: string
  readonly make: () => void
}

/** What changes, and how the API server tells of it. */
function changesOf(
  objects: TypicalObjects,
  server: ListingApiServer,
): Readonly<Record<string, (round: number) => Change>> {
  const { services, pods, policies } = objects.size
  const tellPod = (index: number, type: 'ADDED' | 'MODIFIED'): void => {
    server.tell('/api/v1/pods', type, objects.pod(index))
    const slice = objects.slice(index % services)
    server.tell('/apis/discovery.k8s.io/v1/endpointslices', 'MODIFIED', slice)
  }
  const workload = (index: number): string => {
    const { namespace, name } = objects.pod(index).metadata ?? {}
    return `Kubernetes//Pod/${namespace}/${name}`
  }
  return {
    'pod added': () => {
      const index = objects.addPod()
      return { name: workload(index), make: () => tellPod(index, 'ADDED') }
    },
    'pod IP changed': (round) => {
      const index = (round * 7_919) % pods
      return {
        name: workload(index),
        make: () => {
          objects.movePod(index, `10.250.${round >> 8}.${round & 255}`)
          tellPod(index, 'MODIFIED')
        },
      }
    },
    ...(policies > 0 && {
      'policy changed': (round: number) => {
        const policy = objects.policy(round % policies, 2 + round)
        const { namespace, name } = policy.metadata ?? {}
        return {
          name: `${namespace}/${name}`,
          make: () =>
            server.tell('/apis/security.istio.io/v1/authorizationpolicies', 'MODIFIED', policy),
        }
      },
    }),
  }
}

type Served = Extract<FromAgents, { kind: 'served' }>

/** The agents, in processes. */
class Crowd implements AsyncDisposable {
  readonly #children: readonly ChildProcess[]
  readonly ready: Promise<unknown>
  /** Streams that ended, by reason. */
  readonly ends: Record<string, number> = {}

  constructor(processes = Math.max(2, availableParallelism())) {
    const program = join(import.meta.dirname, 'scale-agents-process.ts')
    this.#children = Array.from({ length: processes }, () => fork(program))
    for (const child of this.#children)
      child.on('message', (message: FromAgents) => {
        if (message.kind !== 'ends') return
        for (const [reason, count] of Object.entries(message.byReason))
          this.ends[reason] = (this.ends[reason] ?? 0) + count
      })
    this.ready = this.#each('ready')
  }

  /** Starts so many, all at once; resolves when each has been answered. */
  async start(options: {
    readonly agents: number
    readonly port: number
    readonly roots: string
  }): Promise<Served> {
    const { agents, port, roots } = options
    const served = this.#each('served')
    const share = agents / this.#children.length
    this.#children.forEach((child, index) =>
      send(child, {
        kind: 'start',
        from: Math.round(index * share),
        to: Math.round((index + 1) * share),
        port,
        roots,
        serverName: SERVER_NAME,
      }),
    )
    return together(await served)
  }

  /** Resolves when all look out for it; what it gives, when it is there. */
  async expect(name: string): Promise<() => Promise<readonly number[]>> {
    const arrived = this.#each('arrived')
    await this.#tell({ kind: 'expect', name })
    return async () => (await arrived).flatMap(({ times }) => times)
  }

  async expectReturn(): Promise<() => Promise<Served>> {
    const served = this.#each('served')
    await this.#tell({ kind: 'expectReturn' })
    return async () => together(await served)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL')
  }

  async #tell(message: ToAgents): Promise<void> {
    const expecting = this.#each('expecting')
    for (const child of this.#children) send(child, message)
    await expecting
  }

  /** The next message of this kind from each. */
  #each<K extends FromAgents['kind']>(kind: K): Promise<Extract<FromAgents, { kind: K }>[]> {
    return Promise.all(
      this.#children.map((child) => {
        const { promise, resolve, reject } =
          Promise.withResolvers<Extract<FromAgents, { kind: K }>>()
        const onExit = (): void => reject(new Error('a process of agents has ended'))
        const listen = (message: FromAgents): void => {
          if (message.kind !== kind) return
          child.off('message', listen)
          child.off('exit', onExit)
          resolve(message as Extract<FromAgents, { kind: K }>)
        }
        child.on('message', listen)
        child.once('exit', onExit)
        return promise
      }),
    )
  }
}

function send(child: ChildProcess, message: ToAgents): void {
  child.send(message)
}

function together(parts: readonly Served[]): Served {
  return {
    kind: 'served',
    times: parts.flatMap(({ times }) => times),
    bytes: parts.reduce((sum, { bytes }) => sum + bytes, 0),
    resources: parts.reduce((sum, { resources }) => sum + resources, 0),
  }
}

if (import.meta.main) {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
  const number = { type: 'string' } as const
  const { values } = parseArgs({
    options: {
      agents: number,
      workloads: number,
      services: number,
      policies: number,
      rounds: number,
      profile: { type: 'string' },
      tree: { type: 'string' },
    },
  })
  const size = (name: 'agents' | 'workloads' | 'services' | 'policies' | 'rounds'): number =>
    Number(values[name] ?? SCALE_DEFAULTS[name])
  await measureScale({
    agents: size('agents'),
    workloads: size('workloads'),
    services: size('services'),
    policies: size('policies'),
    rounds: size('rounds'),
    profile: values.profile,
    tree: values.tree,
    onFigure: (name, value) =>
      console.log(`${name.padEnd(32)} ${Number.isInteger(value) ? value : value.toFixed(1)}`),
  })
}
