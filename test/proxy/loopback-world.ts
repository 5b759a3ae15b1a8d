// SPDX-License-Identifier: Apache-2.0
// A data plane without a kernel's help: pods are addresses of 127/8, capture is a table of what each client asked
// for. Everything above capture is real: sockets, TLS, HTTP/2, relays.

import { AccessLog } from '../../agent/proxy/access-log.ts'
import { once } from 'node:events'
import { createServer, type Server, Socket } from 'node:net'
import { pino } from 'pino'
import type { Test } from 'tap'
import type { DataPlaneSockets } from '../../agent/capture/types.ts'
import type { Judge } from '../../agent/proxy/admission.ts'
import {
  ConnectionCounts,
  type CountTable,
  countTable,
} from '../../agent/proxy/connection-counts.ts'
import type { MissingPolicies } from '../../agent/proxy/decision/policy-judge.ts'
import { DataPlane } from '../../agent/proxy/worker/data-plane.ts'
import type { LocalPod } from '../../agent/proxy/local-pod.ts'
import { SOCKET_OPTIONS } from '../../agent/proxy/upstream.ts'
import type {
  FromWorker,
  SameNode,
  ToWorker,
  WorkerRequest,
} from '../../agent/proxy/worker/worker-protocol.ts'
import { HELD_LIMIT_BYTES } from '../../mesh/hbone/limits.ts'
import { HeldMemory } from '../../mesh/http2/held-memory.ts'
import { parseSpiffeId, spiffeId } from '../../mesh/identity/spiffe.ts'
import type {
  IpAddress,
  PodUid,
  Service,
  ServiceKey,
  SocketAddress,
  SpiffeId,
  Workload,
  WorkloadUid,
} from '../../mesh/model/types.ts'
import { ok } from '../../mesh/result.ts'
import { addressBytes } from '../../native/libc.ts'
import { openSocket } from '../../native/socket-spec.ts'
import { type Kind, requiredEngine } from '../support/plain-sockets.ts'
import { makeCertificate, makeRoot, type TestRoot } from '../hbone/certs.ts'

/** A subnet of loopback for this process, so that tests beside one another do not share port 15008. */
const SUBNET = `127.${64 + (process.pid % 128)}.${(process.pid >> 7) % 250}`
let nextHost = 1

/** A new loopback address. */
export function newAddress(): IpAddress {
  nextHost += 1
  return `${SUBNET}.${nextHost}` as IpAddress
}

export type AccessLine = Readonly<Record<string, string | number>>

/** One agent with one worker's worth of data plane. */
export interface TestAgent {
  readonly dataPlane: DataPlane
  /** Access lines so far. */
  readonly lines: AccessLine[]
  readonly messages: FromWorker[]
  /** Resolves with the first access line that matches. */
  line(matches: (line: AccessLine) => boolean): Promise<AccessLine>
  ask(request: WorkerRequest): Promise<unknown>
  /** Serves a pod; its outbound and inbound plaintext listeners get these ports. */
  servePod(pod: LocalPod): Promise<ServedPod>
  send(message: ToWorker): void
}

export interface ServedPod {
  readonly pod: LocalPod
  /** Connects as the pod's app would to `destination`: through the outbound listener. */
  call(destination: SocketAddress): Promise<Socket>
  /** Where the pod's captured plaintext arrives. */
  readonly plaintext: SocketAddress
}

const FIRST_FD = 100_000
let nextFd = FIRST_FD

/** The facts of a pod at a new loopback address. */
export function testPod(name: string, address = newAddress(), namespace = 'shop'): LocalPod {
  nextFd += 1
  return {
    uid: `uid-${name}-${nextFd}` as PodUid,
    namespace,
    name,
    serviceAccount: name,
    identity: spiffeId({ trustDomain: 'cluster.local', namespace, serviceAccount: name }),
    workloadUid: `Kubernetes//Pod/${namespace}/${name}` as WorkloadUid,
    addresses: [address],
    netnsFd: nextFd,
    seat: nextFd - FIRST_FD,
  }
}

/** The mesh's view of a pod. */
export function workloadOf(pod: LocalPod, overrides: Partial<Workload> = {}): Workload {
  return {
    uid: pod.workloadUid,
    name: pod.name,
    namespace: pod.namespace,
    addresses: pod.addresses,
    hostname: '',
    network: '',
    tunnelProtocol: 'hbone',
    trustDomain: 'cluster.local',
    serviceAccount: pod.serviceAccount,
    node: 'node-a',
    canonicalName: pod.name,
    canonicalRevision: 'v1',
    workloadType: 'deployment',
    workloadName: pod.name,
    nativeTunnel: false,
    services: new Map(),
    authorizationPolicies: [],
    status: 'healthy',
    clusterId: 'Kubernetes',
    locality: { region: '', zone: '', subzone: '' },
    foundBy: 'address',
    waypoint: undefined,
    networkGateway: undefined,
    capacity: 1,
    leaving: new Map(),
    networkPolicies: [],
    peerGroups: [],
    namedPorts: [],
    ...overrides,
  }
}

/** A service with one port at one virtual address. */
export function testService(
  name: string,
  vip: IpAddress,
  overrides: Partial<Service> = {},
): Service {
  return {
    key: `shop/${name}.shop.svc.cluster.local` as ServiceKey,
    name,
    namespace: 'shop',
    hostname: `${name}.shop.svc.cluster.local`,
    addresses: [{ network: '', address: vip, prefixLength: undefined }],
    ports: [{ servicePort: 80, targetPort: 8080, appProtocol: 'unknown' }],
    subjectAltNames: [],
    waypoint: undefined,
    weightedWaypoints: [],
    loadBalancing: {
      routingPreference: [],
      mode: 'standard',
      healthPolicy: 'onlyHealthy',
      sessionAffinity: 'none',
    },
    ipFamilies: 'automatic',
    canonical: true,
    externalAddresses: [],
    nodePorts: [],
    nodePortScope: 'cluster',
    ...overrides,
  }
}

/** Membership of a workload in a service, on one port. */
export function inService(service: Service, targetPort: number): Pick<Workload, 'services'> {
  return {
    services: new Map([
      [
        service.key,
        [{ servicePort: 80, targetPort, appProtocol: 'unknown' as const, family: 'any' as const }],
      ],
    ]),
  }
}

/** An app of a pod: a server on the pod's address. */
export async function startApp(
  t: Test,
  address: IpAddress,
  onConnection: (socket: Socket) => void,
): Promise<number> {
  const server = createServer(SOCKET_OPTIONS, (socket) => {
    t.teardown(() => socket.destroy())
    socket.on('error', () => undefined)
    onConnection(socket)
  })
  t.teardown(() => server.close())
  server.listen(0, address)
  await once(server, 'listening')
  return portOf(server)
}

function portOf(server: Server): number {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('not a TCP server')
  return address.port
}

/** What a test may choose of an agent. */
export interface AgentChoices {
  readonly root?: TestRoot
  readonly sameNode?: SameNode
  readonly maxConnectionsPerPod?: number
  /** File descriptors for connections. */
  readonly descriptors?: number
  readonly reportTrafficMs?: number
  readonly certificateWaitMs?: number
  /** Whose sockets serve apps: the native engine's when left out. */
  readonly sockets?: Kind
  readonly sameNodeSecurityLabel?: string
  readonly missingPolicies?: MissingPolicies
  /** The clock of what waits for policies. */
  readonly now?: () => number
  /** Nothing is known of policies until the test says so; else there are none to begin with. */
  readonly knowsNoPolicies?: true
  /** The handshakes under way in a pod; none when left out. */
  readonly handshakes?: DataPlaneSockets['handshakesIn']
  /** What the rules say, in place of the product's. */
  readonly judge?: Judge
  /** Where two workers of one agent count together. */
  readonly countTable?: CountTable
  readonly worker?: number
}

/** Makes an agent whose pods trust `root`. */
export async function startAgent(t: Test, options: AgentChoices = {}): Promise<TestAgent> {
  const root = options.root ?? (await makeRoot())
  const addressByFd = new Map<number, IpAddress>()
  const asked: Asked = { destination: undefined, onRead: undefined }
  let lastCall: Promise<unknown> = Promise.resolve()
  const lines: AccessLine[] = []
  const messages: FromWorker[] = []
  const waiting = new Set<() => void>()
  const wake = (): void => {
    for (const look of [...waiting]) look()
  }
  const accessLog = pino(
    {
      level: 'info',
      base: null,
      timestamp: false,
      formatters: { level: (label) => ({ level: label }) },
    },
    {
      write(text: string) {
        lines.push(JSON.parse(text) as AccessLine)
        wake()
      },
    },
  )
  const sockets: DataPlaneSockets = {
    originalDestination: () => {
      const { destination, onRead } = asked
      asked.destination = undefined
      onRead?.()
      return destination
    },
    openUpstream: ({ netnsFd, from, family }) => {
      const own = from?.address ?? addressByFd.get(netnsFd)
      return ok(
        openSocket({
          family,
          kind: 'tcp',
          options: ['bindNoPort', 'noDelay'],
          ...(own === undefined ? {} : { bind: { address: addressBytes(own), port: 0 } }),
        }),
      )
    },
    openAsApp: () => {
      throw new Error('nothing is captured here: a socket of an app would miss the listeners')
    },
    isCaptured: () => false,
    askedSince: () => undefined,
    setOptions: () => undefined,
    handshakesIn: options.handshakes ?? (() => new Set()),
  }
  const answers = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>()
  const dataPlane = new DataPlane({
    sockets,
    engine: options.sockets === 'node' ? undefined : requiredEngine(),
    network: '',
    sameNode: options.sameNode ?? 'direct',
    sameNodeSecurityLabel: options.sameNodeSecurityLabel ?? 'node_local',
    missingPolicies: options.missingPolicies ?? 'refuse',
    rootNamespace: 'istio-system',
    ...(options.now && { now: options.now }),
    counts: new ConnectionCounts(options.countTable ?? countTable(1), options.worker ?? 0),
    ...(options.judge === undefined ? {} : { judge: options.judge }),
    certificateWaitMs: options.certificateWaitMs,
    ...(options.reportTrafficMs === undefined ? {} : { reportTrafficMs: options.reportTrafficMs }),
    placeLimits: {
      descriptors: options.descriptors ?? 10_000,
      perPod: options.maxConnectionsPerPod ?? 1000,
      handshakes: 1_000,
    },
    memory: new HeldMemory(HELD_LIMIT_BYTES),
    log: pino({ level: 'silent' }),
    accessLog: new AccessLog({ log: accessLog }),
    post: (message) => {
      messages.push(message)
      if (message.kind === 'answer') answers.get(message.id)?.resolve(message.value)
      if (message.kind === 'failure') answers.get(message.id)?.reject(new Error(message.message))
      if (message.kind === 'certificateWanted')
        void supply(root, message.identity, (reply) => dataPlane.receive(reply))
    },
  })
  if (options.knowsNoPolicies !== true)
    dataPlane.receive({ kind: 'mesh', changes: [{ kind: 'policyKnowledge', is: 'current' }] })
  let nextId = 1
  const ask = (request: WorkerRequest): Promise<unknown> => {
    const id = nextId
    nextId += 1
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    answers.set(id, { resolve, reject })
    dataPlane.receive({ kind: 'request', id, request })
    return promise
  }
  t.teardown(() => ask({ kind: 'drainAll', deadlineMs: 0 }))
  return {
    dataPlane,
    lines,
    messages,
    ask,
    send: (message) => dataPlane.receive(message),
    line: (matches) =>
      new Promise((resolve) => {
        const look = (): void => {
          const found = lines.find(matches)
          if (found === undefined) return
          waiting.delete(look)
          resolve(found)
        }
        waiting.add(look)
        look()
      }),
    async servePod(pod) {
      const [address] = pod.addresses
      if (address === undefined) throw new Error('a pod needs an address')
      addressByFd.set(pod.netnsFd, address)
      const bytes = addressBytes(address)
      const listen = (port: number): number =>
        openSocket({
          family: 4,
          kind: 'tcp',
          options: ['reuseAddress'],
          bind: { address: bytes, port },
          backlog: 128,
        })
      dataPlane.receive({ kind: 'localPod', pod })
      dataPlane.receive({
        kind: 'certificate',
        certificate: await makeCertificate(root, pod.identity),
      })
      await ask({
        kind: 'servePod',
        pod,
        listeners: { outbound: [listen(15001)], inbound: [listen(15006)], hbone: [listen(15008)] },
      })
      return {
        pod,
        plaintext: { address, port: 15006 },
        call: (destination) => {
          const called = lastCall.then(() => callThrough(t, address, destination, asked))
          lastCall = called.catch(() => undefined)
          return called
        },
      }
    },
  }
}

/** What the next accepted connection asked for; read once, as the agent reads the socket's storage once. */
interface Asked {
  destination: SocketAddress | undefined
  onRead: (() => void) | undefined
}

/** One at a time, so that the listener's next accept is this connection. */
async function callThrough(
  t: Test,
  pod: IpAddress,
  destination: SocketAddress,
  asked: Asked,
): Promise<Socket> {
  const socket = new Socket(SOCKET_OPTIONS)
  t.teardown(() => socket.destroy())
  const read = new Promise<void>((resolve) => {
    asked.destination = destination
    asked.onRead = resolve
  })
  socket.connect(15001, pod)
  // A refusal may come before Node has told of the connection; the caller looks at socket.errored.
  await new Promise<void>((resolve) => {
    socket.once('connect', resolve)
    socket.once('error', () => resolve())
  })
  await read
  return socket
}

async function supply(
  root: TestRoot,
  identity: SpiffeId,
  reply: (message: ToWorker) => void,
): Promise<void> {
  if (parseSpiffeId(identity) === undefined) return
  reply({ kind: 'certificate', certificate: await makeCertificate(root, identity) })
}
