// SPDX-License-Identifier: Apache-2.0
// The data plane of a waypoint: an HBONE server in front, a pool of HBONE connections behind, and between them the calls. It is given its
// certificates and its view of the mesh, and knows nothing of where they come from.

import type { AuditJournal } from '../mesh/audit/journal.ts'
import type { BucketSize, MonotonicClock } from '../mesh/async/bucket.ts'
import { inTime, LATE } from '../mesh/async/deadline.ts'
import { Drain } from '../mesh/async/drain.ts'
import { KeyedBuckets } from '../mesh/async/keyed-buckets.ts'
import { EndpointExperience } from '../mesh/balance/endpoint-experience.ts'
import { CONNECT_DEADLINE_MS } from '../mesh/hbone/limits.ts'
import { createHbonePool } from '../mesh/hbone/pool.ts'
import { createHboneServer } from '../mesh/hbone/server.ts'
import { HboneSources } from '../mesh/hbone/sources.ts'
import { TrustChange } from '../mesh/hbone/trust-change.ts'
import type { HbonePool, HboneServer, ListenPlace } from '../mesh/hbone/types.ts'
import { HeldMemory } from '../mesh/http2/held-memory.ts'
import { Revocations } from '../mesh/identity/revocations.ts'
import type { RevocationList } from '../mesh/identity/revocation-list.ts'
import { type TrustPolicy, trustPolicy } from '../mesh/identity/trust-policy.ts'
import type { WorkloadCertificate } from '../mesh/identity/types.ts'
import type { MeshState } from '../mesh/model/mesh-state.ts'
import type { SpiffeId, Workload } from '../mesh/model/types.ts'
import type { SocketEngine } from '../mesh/relay/socket-engine.ts'
import { err, ok } from '../mesh/result.ts'
import { workloadBaggage } from '../mesh/telemetry/baggage.ts'
import type { Logger } from '../mesh/telemetry/log.ts'
import { END_REASONS } from '../mesh/telemetry/end-reason.ts'
import { isOwnGateway, type OwnGateway } from './config/own-gateway.ts'
import type { Call, CallParts, OpenCall, ServedCall } from './listener/call.ts'
import { HttpCall, type HttpParts } from './listener/http-call.ts'
import { Enforcement } from './policy/enforcement.ts'
import { askedRequest, RequestRouter } from './request-router.ts'
import { Connections } from './upstream/connections.ts'
import { backendProtocol } from './upstream/backend-protocol.ts'
import { Mirrors } from './exchange/mirrors.ts'
import { DeadlineWheel } from './exchange/deadline-wheel.ts'
import { BoundHere, hasMoved } from './listener/moved.ts'
import { Tunnels } from './listener/tunnels.ts'
import { dial as dialTcp, type Dial } from './upstream/dial.ts'
import { Upstreams } from './upstream/upstreams.ts'
import type { CallObserver } from './listener/observer.ts'
import type { Tracer } from './tracing/tracer.ts'

export interface WaypointOptions {
  readonly own: OwnGateway
  readonly identity: SpiffeId
  readonly trustDomain: string
  readonly trustDomainAliases: readonly string[]
  readonly mesh: MeshState
  readonly maxTunnels: number
  readonly observer: CallObserver
  /** What policies want on record. */
  readonly audit: Pick<AuditJournal, 'admits' | 'recordAdmitted'>
  /** Takes requests into their traces; undefined: headers of traces go through as they are. */
  readonly tracer?: Tracer | undefined
  readonly log: Logger
  /** Moves the bytes of HBONE; Node does where there is none. */
  readonly engine?: SocketEngine | undefined
  /** The workload of this very pod, where discovery knows it. */
  readonly self: () => Workload | undefined
  /** For tests. */
  readonly dial?: Dial
  /** Of the accounts of clients; for tests. */
  readonly now?: MonotonicClock
}

/**
 * What all connections may hold for receivers that lag: sixteen fully stalled tunnels, beside which a waypoint of 128 MiB runs. Over it the
 * greediest are reset.
 */
const HELD_LIMIT_BYTES = 64 * 1024 * 1024
/**
 * Requests of one client, over all its connections of HTTP/2, that may lead to nothing: malformed ones, and those reset within a moment of
 * being sent. A gateway that cancels one in fifty of 10,000 a second stays below.
 */
const WASTED_REQUESTS: BucketSize = { burst: 1_000, perSecond: 500 }
/**
 * Frames of one client, over all its connections of HTTP/2, that carry nothing and answer nothing: a thousand connections that ping every ten
 * seconds stay below.
 */
const EMPTY_FRAMES: BucketSize = { burst: 2_000, perSecond: 500 }
const NOBODY = ''
/** Of all tunnels those that one client may have. */
const PART_OF_ONE = 1 / 4
/** How long idle connections of clients are kept when the waypoint goes: who makes requests makes one in this time. */
const IDLE_GRACE_MS = 5_000
/** Time for the resets of cut tunnels to leave before their HTTP/2 connections are closed under them. */
const RESET_FLUSH_MS = 200

export class Waypoint {
  readonly #options: WaypointOptions
  readonly #calls = new Drain<ServedCall>()
  readonly #revocations = new Revocations()
  readonly #trust: TrustPolicy
  readonly #memory = new HeldMemory(HELD_LIMIT_BYTES)
  readonly #pool: HbonePool
  readonly #connections: Connections
  readonly #tunnels: Tunnels
  readonly #trustChange: TrustChange
  readonly #unsubscribe: () => void
  readonly #policies: Enforcement
  #certificate: WorkloadCertificate | undefined
  #server: HboneServer | undefined
  #isLeaving = false

  constructor(options: WaypointOptions) {
    this.#options = options
    const { mesh, own, identity, observer, tracer, maxTunnels, engine, log } = options
    const { trustDomain, trustDomainAliases: aliases, dial = dialTcp } = options
    this.#trust = trustPolicy({ trustDomain, aliases }, this.#revocations)
    this.#pool = createHbonePool({
      dial: ({ destination }, signal) =>
        dial(
          destination,
          { timeoutMs: CONNECT_DEADLINE_MS, timeoutReason: 'connectTimeout' },
          signal,
        ),
      certificate: () =>
        Promise.resolve(
          this.#certificate === undefined
            ? err({ reason: 'identityError', message: 'there is no certificate yet' })
            : ok(this.#certificate),
        ),
      trust: this.#trust,
      memory: this.#memory,
      engine,
    })
    const experience = new EndpointExperience(mesh, {
      ejected: ({ endpoint, port }, forMs, why) =>
        log.info({ endpoint, port, forMs, reason: why }, 'an endpoint is left alone for a while'),
      recovered: ({ endpoint, port }) =>
        log.info({ endpoint, port }, 'an endpoint takes connections again'),
    })
    const isOwn = isOwnGateway(own, mesh)
    const boundHere = new BoundHere(isOwn)
    this.#unsubscribe = mesh.subscribe((changes) => {
      for (const change of changes)
        if (change.kind === 'workloadRemoved') experience.forget(change.uid)
      if (boundHere.hasLost(changes)) this.#review()
    })
    const isElsewhere = (call: Call): boolean => hasMoved(mesh, isOwn, call)
    const upstreams = new Upstreams({
      mesh,
      network: own.network,
      pool: this.#pool,
      dial,
      identity,
      experience,
      isOwn,
    })
    const deadlines = new DeadlineWheel()
    const waypointName = { namespace: own.namespace, name: own.gatewayName }
    this.#policies = new Enforcement(
      { mesh, waypoint: waypointName, audit: options.audit, hasMoved: isElsewhere },
      () => this.#review(),
    )
    const router = new RequestRouter<Call>({
      mesh,
      judge: (call, request) => this.#policies.request(call, request),
      onProblems: (service, problems) =>
        log.warn({ service, problems }, 'routes that no request falls under'),
    })
    const parts: CallParts = {
      upstreams,
      calls: this.#calls,
      policies: this.#policies,
      onEnd: (call, end) => observer.ended(call, end),
    }
    this.#connections = new Connections({ upstreams, deadlines, memory: this.#memory })
    const nuisance = new KeyedBuckets(WASTED_REQUESTS, options.now)
    const idling = new KeyedBuckets(EMPTY_FRAMES, options.now)
    const http: HttpParts = {
      calls: this.#calls,
      deadlines,
      connections: this.#connections,
      appProtocol: (backend) => backendProtocol(mesh, backend),
      http2: ({ address }) => ({
        memory: this.#memory,
        accounts: {
          waste: nuisance.of(address?.address ?? NOBODY),
          control: idling.of(address?.address ?? NOBODY),
        },
      }),
      mirrors: new Mirrors((end) => observer.mirrored(end)),
      isLeaving: () => this.#isLeaving,
      hasMoved: isElsewhere,
      route: (call, head) => {
        const outcome = router.route(call, head)
        return tracer === undefined ? outcome : tracer.traced(head, outcome)
      },
      onRequest: (call, record) => observer.request(call, record),
      again: (call, head) => {
        const request = askedRequest(head)
        return request && this.#policies.again(call, request)
      },
    }
    this.#tunnels = new Tunnels({
      world: { mesh, namespace: own.namespace, isOwn },
      trust: this.#trust,
      limits: { perSource: Math.floor(maxTunnels * PART_OF_ONE), total: maxTunnels },
      baggage: () => {
        const self = options.self()
        return self && workloadBaggage(self)
      },
      ...parts,
      onRefused: (refused) => observer.refused(refused),
      routesOf: ({ backend, source }) =>
        backend.kind === 'service'
          ? mesh.httpRoutes.find(backend.service, backend.port, source.identity)
          : undefined,
      originatesTls: ({ backend }) =>
        backend.kind === 'service' &&
        mesh.backendTls.find(backend.service, backend.port) !== undefined,
      serveHttp: (call, pipe, start) => void new HttpCall(call, http, pipe, start),
    })
    this.#trustChange = new TrustChange({
      pool: this.#pool,
      servers: () => (this.#server === undefined ? [] : [this.#server]),
      onCut: (connections, reason) =>
        log.warn({ connections }, `HBONE connections were cut: ${END_REASONS[reason].text}`),
    })
  }

  #review(): void {
    for (const call of this.#calls) call.review()
  }

  /** Tunnels that are open. */
  get tunnels(): number {
    return this.#tunnels.size
  }

  /** Calls that are open, the oldest first. */
  *openCalls(): Generator<OpenCall, void, undefined> {
    for (const call of this.#calls) yield call.describe()
  }

  /** HBONE connections of clients, and to endpoints. */
  get connections(): { readonly clients: number; readonly endpoints: number } {
    return {
      clients: this.#server?.connectionCount() ?? 0,
      endpoints: this.#pool.connectionCount(),
    }
  }

  /** Takes the certificate for all handshakes from now on. */
  setCertificate(certificate: WorkloadCertificate): void {
    this.#certificate = certificate
    this.#trustChange.certificate(certificate)
    this.#server?.setCertificate(certificate)
  }

  /** Cuts what is open to peers that are revoked. */
  setRevocations(lists: readonly RevocationList[]): void {
    this.#revocations.replace(lists)
    this.#trustChange.revoked(this.#trust)
  }

  /** Serves from now on; there must be a certificate. Says the port. */
  listen(place: ListenPlace): Promise<number> {
    const { mesh, observer } = this.#options
    if (this.#certificate === undefined) throw new Error('a waypoint listens with a certificate')
    this.#server = createHboneServer({
      certificate: this.#certificate,
      trust: this.#trust,
      memory: this.#memory,
      engine: this.#options.engine,
      sources: new HboneSources(),
      // Nothing is captured here: whoever calls from this very pod has to prove who it is as everybody else.
      isFromOutside: () => true,
      isKnownSource: (address) => mesh.findWorkload(address) !== undefined,
      onTunnel: (incoming) => this.#tunnels.take(incoming),
      onRefused: (refused) => observer.refused({ ...refused, peerIdentity: undefined }),
    })
    return this.#server.listen(place)
  }

  /** Takes no more tunnels, lets those that are open end, and cuts what is left at the deadline. */
  async drain(deadlineMs: number): Promise<{ readonly cut: number }> {
    this.#unsubscribe()
    this.#isLeaving = true
    // Not at once: a client may be about to use a connection that is idle now, and then hears with the answer that it was the last.
    const idle = setTimeout(
      () => {
        for (const call of this.#calls) call.drain()
      },
      Math.min(deadlineMs / 2, IDLE_GRACE_MS),
    )
    // The deadline is the calls' alone: were it the connections', too, they might cut first, and nobody would know what for.
    const clients = this.#server?.drain(deadlineMs + RESET_FLUSH_MS)
    // That there is no call at some moment is not the end: a client that has not heard of it yet may begin one, and is served.
    const areGone = clients === undefined || (await inTime(clients, deadlineMs)) !== LATE
    const drained = await this.#calls.drain(areGone ? RESET_FLUSH_MS : 0, (call) => {
      call.cut('drained')
      return 1
    })
    clearTimeout(idle)
    this.#policies.close()
    this.#connections.drain()
    await Promise.all([clients, this.#pool.drain(RESET_FLUSH_MS)])
    return drained
  }
}
