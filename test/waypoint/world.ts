// SPDX-License-Identifier: Apache-2.0
// A waypoint in this process with a client before it and pods behind it, joined by real TLS and HBONE on loopback. Pods have addresses of
// their own in the mesh; the waypoint's dial leads to where they listen.

import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'
import type { AuditEvent } from '../../mesh/audit/event.ts'
import { createHbonePool } from '../../mesh/hbone/pool.ts'
import { createHboneServer } from '../../mesh/hbone/server.ts'
import { socketEngine } from '../support/engine.ts'
import { HboneSources } from '../../mesh/hbone/sources.ts'
import type { HboneFailure, IncomingTunnel, OpenedTunnel } from '../../mesh/hbone/types.ts'
import { HELD_LIMIT_BYTES } from '../../mesh/hbone/limits.ts'
import { HeldMemory } from '../../mesh/http2/held-memory.ts'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'
import { formatSocketAddress } from '../../mesh/model/address.ts'
import type { AppProtocol } from '../../mesh/model/gateway.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type {
  GatewayAddress,
  IpAddress,
  MeshChange,
  ServiceKey,
  SocketAddress,
  Workload,
} from '../../mesh/model/types.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import type { Call, CallEnd, Refused } from '../../waypoint/listener/call.ts'
import { dial as dialTcp, type Dial } from '../../waypoint/upstream/dial.ts'
import type { Tracer } from '../../waypoint/tracing/tracer.ts'
import { Waypoint } from '../../waypoint/waypoint.ts'
import type { MirrorEnd } from '../../waypoint/exchange/mirrors.ts'
import type { RequestRecord } from '../../waypoint/exchange/types.ts'
import { makeCertificate, makeRoot, testIdentity, type TestRoot } from '../hbone/certs.ts'
import { dialFailure } from '../hbone/harness.ts'
import { ip, sampleService, sampleWorkload, serviceKey } from '../model/samples.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'
import { Waiter } from '../support/waiter.ts'

const LOOPBACK = '127.0.0.1' as IpAddress
/** Of the Service `shop` that the tests call. */
const SHOP: SocketAddress = { address: ip('10.96.0.50'), port: 80 }
export const SHOP_KEY: ServiceKey = serviceKey('shop', 'catalog')
export const OWN_WAYPOINT: GatewayAddress = {
  destination: {
    kind: 'hostname',
    namespace: 'shop',
    hostname: 'way.shop.svc.cluster.local',
  },
  hbonePort: 15008,
}

/** A pod behind the waypoint. */
export interface TestPod {
  readonly workload: Workload
  /** Tunnels that arrived, in order. */
  readonly tunnels: IncomingTunnel[]
}

export interface World {
  readonly root: TestRoot
  readonly mesh: MeshState
  readonly waypoint: Waypoint
  readonly port: number
  readonly ended: { readonly call: Call; readonly end: CallEnd }[]
  readonly refused: Refused[]
  readonly requests: RequestRecord[]
  readonly audit: AuditEvent[]
  readonly mirrored: MirrorEnd[]
  /** Looks again whenever something was told by the waypoint. */
  readonly told: Waiter
  apply(...changes: MeshChange[]): void
  /** Adds a pod of the Service; its tunnels go to `serve`. */
  addPod(
    name: string,
    serve: (incoming: IncomingTunnel) => void,
    overrides?: Partial<Workload>,
  ): Promise<TestPod>
  /** Adds an endpoint outside the mesh; its connections go to `serve`. */
  addPlain(name: string, serve: (socket: Socket) => void): Promise<Workload>
  /** A pod that is known, and where nothing listens. */
  addDeadPod(name: string): Workload
  open(authority?: string): Promise<Result<OpenedTunnel, HboneFailure>>
  /** As open(); throws where there is none. */
  tunnel(authority?: string): Promise<OpenedTunnel['tunnel']>
  /** Calls under another service account. */
  asAnother(serviceAccount: string): Promise<Pick<World, 'open' | 'tunnel'>>
}

/** Resolves once a tunnel is over; it may be already. */
export async function closed(tunnel: OpenedTunnel['tunnel']): Promise<void> {
  tunnel.resume()
  if (!tunnel.closed) await once(tunnel, 'close')
}

export interface WorldOptions {
  readonly protocol?: AppProtocol
  readonly maxTunnels?: number
  readonly clientCertificate?: (root: TestRoot) => Promise<WorkloadCertificate>
  readonly tracer?: Tracer
  /** Of the accounts of clients. */
  readonly now?: () => number
  /** Events that the audit takes; as many as there are when not given. */
  readonly auditBudget?: number
}

/** Makes it all; everything ends with the test. */
export async function makeWaypointWorld(t: Test, options: WorldOptions = {}): Promise<World> {
  const root = await makeRoot()
  const own = testIdentity('way')
  const clientCertificate =
    (await options.clientCertificate?.(root)) ??
    (await makeCertificate(root, testIdentity('client')))
  const mesh = new MeshState()
  const told = new Waiter()
  const ended: { readonly call: Call; readonly end: CallEnd }[] = []
  const refused: Refused[] = []
  const requests: RequestRecord[] = []
  const audit: AuditEvent[] = []
  const mirrored: MirrorEnd[] = []
  /** Where what listens at an address of the mesh really listens. */
  const ports = new Map<string, number>()
  const dial: Dial = (destination, how, signal) => {
    const port = ports.get(formatSocketAddress(destination))
    // Where nothing listens, the kernel refuses.
    return dialTcp({ address: LOOPBACK, port: port ?? 1 }, how, signal)
  }
  const waypoint = new Waypoint({
    own: { gatewayName: 'way', namespace: 'shop', clusterDomain: 'cluster.local', network: '' },
    identity: own,
    trustDomain: 'cluster.local',
    trustDomainAliases: [],
    mesh,
    maxTunnels: options.maxTunnels ?? 1_000,
    engine: socketEngine(),
    observer: {
      ended: (call, end) => {
        ended.push({ call, end })
        told.poke()
      },
      refused: (event) => {
        refused.push(event)
        told.poke()
      },
      mirrored: (end) => {
        mirrored.push(end)
        told.poke()
      },
      request: (_call, record) => {
        requests.push(record)
        told.poke()
      },
    },
    audit: {
      admits: () => audit.length < (options.auditBudget ?? Number.POSITIVE_INFINITY),
      recordAdmitted: (_owner, event) => {
        audit.push(event)
        told.poke()
      },
    },
    tracer: options.tracer,
    log: createLogger('test', 'silent'),
    self: () => undefined,
    dial,
    ...(options.now && { now: options.now }),
  })
  waypoint.setCertificate(await makeCertificate(root, own))
  const port = await waypoint.listen({ host: LOOPBACK, port: 0 })
  const callerWith = (certificate: WorkloadCertificate): Pick<World, 'open' | 'tunnel'> => {
    const pool = createHbonePool({
      certificate: () => Promise.resolve(ok(certificate)),
      memory: new HeldMemory(HELD_LIMIT_BYTES),
      dial: async (_target, signal) => {
        const socket = connect({ port, host: LOOPBACK })
        try {
          await once(socket, 'connect', { signal })
        } catch (error) {
          socket.destroy()
          return err(dialFailure(error))
        }
        return ok(socket)
      },
    })
    t.teardown(() => pool.drain(0))
    const open: World['open'] = (authority = formatSocketAddress(SHOP)) =>
      pool.open(
        {
          sourceIdentity: certificate.identity,
          sourceIp: undefined,
          destination: { address: LOOPBACK, port },
          expectedIdentities: [own],
        },
        authority,
        {},
        AbortSignal.timeout(10_000),
      )
    return {
      open,
      tunnel: async (authority) => {
        const opened = await open(authority)
        if (!opened.ok) throw new Error(`${opened.error.reason}: ${opened.error.message}`)
        return opened.value.tunnel
      },
    }
  }
  mesh.apply([
    {
      kind: 'service',
      service: sampleService('catalog', {
        waypoint: OWN_WAYPOINT,
        addresses: [{ network: '', address: SHOP.address, prefixLength: undefined }],
        ports: [
          { servicePort: SHOP.port, targetPort: 8080, appProtocol: options.protocol ?? 'tcp' },
        ],
      }),
    },
    {
      kind: 'workload',
      workload: sampleWorkload('client', { addresses: [LOOPBACK], serviceAccount: 'client' }),
    },
  ])
  t.teardown(() => waypoint.drain(0))
  let pods = 0
  const podWorkload = (name: string, overrides: Partial<Workload> = {}): Workload => {
    pods += 1
    return sampleWorkload(name, {
      addresses: [ip(`10.244.1.${pods}`)],
      serviceAccount: name,
      services: new Map([
        [
          SHOP_KEY,
          [
            {
              servicePort: SHOP.port,
              targetPort: 8080,
              appProtocol: options.protocol ?? 'tcp',
              family: 'any',
            },
          ],
        ],
      ]),
      ...overrides,
    })
  }
  return {
    root,
    mesh,
    waypoint,
    port,
    ended,
    refused,
    requests,
    mirrored,
    audit,
    told,
    apply: (...changes) => mesh.apply(changes),
    ...callerWith(clientCertificate),
    asAnother: async (name) => callerWith(await makeCertificate(root, testIdentity(name))),
    addPlain: async (name, serve) => {
      const workload = podWorkload(name, { tunnelProtocol: 'none' })
      const server = createServer({ allowHalfOpen: true }, (socket) => {
        socket.on('error', () => undefined)
        serve(socket)
      }).listen(0, LOOPBACK)
      await once(server, 'listening')
      t.teardown(() => server.close())
      const at = server.address()
      const [address = LOOPBACK] = workload.addresses
      if (typeof at === 'object' && at !== null)
        ports.set(formatSocketAddress({ address, port: 8080 }), at.port)
      mesh.apply([{ kind: 'workload', workload }])
      return workload
    },
    addDeadPod: (name) => {
      const workload = podWorkload(name)
      mesh.apply([{ kind: 'workload', workload }])
      return workload
    },
    addPod: async (name, serve, overrides) => {
      const workload = podWorkload(name, overrides)
      const tunnels: IncomingTunnel[] = []
      const server = createHboneServer({
        certificate: await makeCertificate(root, testIdentity(name)),
        isFromOutside: () => true,
        isKnownSource: () => true,
        sources: new HboneSources(),
        memory: new HeldMemory(HELD_LIMIT_BYTES),
        onTunnel: (incoming) => {
          tunnels.push(incoming)
          serve(incoming)
        },
        onRefused: () => undefined,
      })
      const listening = await server.listen({ host: LOOPBACK, port: 0 })
      for (const address of workload.addresses)
        ports.set(formatSocketAddress({ address, port: 15008 }), listening)
      t.teardown(() => server.drain(0))
      mesh.apply([{ kind: 'workload', workload }])
      return { workload, tunnels }
    },
  }
}
