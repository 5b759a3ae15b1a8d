// SPDX-License-Identifier: Apache-2.0
// Takes the tunnels that arrive: lets them in, finds what they ask for and what they speak, and hands them to whoever serves that.

import { PerSource } from '../../mesh/async/per-source.ts'
import type { IncomingTunnel } from '../../mesh/hbone/types.ts'
import type { HttpRoutes } from '../../mesh/model/http-routes.ts'
import type { TrustPolicy } from '../../mesh/identity/trust-policy.ts'
import type { StartedPipe } from '../../mesh/relay/started-pipe.ts'
import { StreamPipe } from '../../mesh/relay/stream-pipe.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import type { Call, CallParts, CallSource, Refused } from './call.ts'
import { callerOf } from './caller-of.ts'
import { beginsTls } from './client-hello.ts'
import { decideTunnel, type TunnelDecision, type TunnelWorld } from './decide-tunnel.ts'
import { serveRouted } from './routed-call.ts'
import { TcpCall } from './tcp-call.ts'
import { UnknownCall } from './unknown-call.ts'

export interface TunnelsOptions extends CallParts {
  readonly world: TunnelWorld
  readonly trust: TrustPolicy
  /** At once, of one caller and of all; an idle one holds some kilobytes here. */
  readonly limits: { readonly perSource: number; readonly total: number }
  /** What the waypoint says of itself; undefined while discovery does not know it. */
  readonly baggage: () => string | undefined
  /** Told of tunnels that were not let in. */
  readonly onRefused: (refused: Refused) => void
  /** The routes of what was called; undefined where it has none. */
  readonly routesOf: (call: Call) => HttpRoutes | undefined
  /** Whether the waypoint speaks TLS to what was called. */
  readonly originatesTls: (call: Call) => boolean
  /** Serves requests. `start` lets the client's bytes in once the pipe has its sink. */
  readonly serveHttp: (call: Call, pipe: StartedPipe, start: () => void) => void
}

const BAD_REQUEST = 400
/** Another pod of the waypoint may have room. */
const NO_ROOM = 503

export class Tunnels {
  readonly #options: TunnelsOptions
  readonly #open: PerSource

  constructor(options: TunnelsOptions) {
    this.#options = options
    this.#open = new PerSource(options.limits)
  }

  /** Tunnels that are open. */
  get size(): number {
    return this.#open.total
  }

  /** Serves one CONNECT to its end; never throws for anything that a peer does. */
  take(incoming: IncomingTunnel): void {
    const { world, baggage } = this.#options
    const { peer, authority } = incoming
    const decision = decideTunnel(world, authority)
    if (decision.kind === 'reject') {
      incoming.reject(decision.status)
      return this.#refused(incoming, decision.reason, decision.message)
    }
    const { mesh } = world
    const caller = callerOf({ mesh, trust: this.#options.trust }, incoming, decision.workload)
    if (!caller.ok) {
      incoming.reject(BAD_REQUEST)
      return this.#refused(incoming, 'hboneBadRequest', caller.error)
    }
    if (!this.#open.enter(peer.address)) {
      incoming.reject(NO_ROOM)
      const message = `${peer.address} has ${this.#open.of(peer.address)} of ${this.#open.total} tunnels already`
      return this.#refused(incoming, 'tooManyConnections', message)
    }
    const said = baggage()
    const tunnel = incoming.acceptBare(said === undefined ? {} : { baggage: said })
    const pipe = new StreamPipe(tunnel, 'client', () => this.#open.leave(peer.address))
    this.#serve(callOf(caller.value, decision), decision, pipe)
  }

  #serve(call: Call, { protocol: declared }: Served, pipe: StreamPipe): void {
    const originates = this.#options.originatesTls(call)
    // What the port is called means its pods; its clients may leave TLS to the waypoint, or not.
    const protocol = declared === 'tls' && originates ? 'unknown' : declared
    const start = (): void => pipe.start()
    const { rules = [], connections = [] } = this.#options.routesOf(call) ?? {}
    const isCarried = protocol === 'tcp' || protocol === 'tls'
    if (isCarried || (connections.length > 0 && rules.length === 0))
      return serveRouted(this.#options, {
        call,
        rules: connections,
        pipe,
        isTls: protocol === 'tls',
      })
    switch (protocol) {
      case 'http1':
      case 'http2':
      case 'grpc':
        return this.#options.serveHttp(call, pipe, start)
      case 'unknown':
        new UnknownCall(
          call,
          this.#options,
          pipe,
          connections.length === 0 && !originates,
          (detected, held, opened) => {
            const release = (): void => held.release(pipe.sink)
            if (detected !== 'tcp') return this.#options.serveHttp(call, pipe, release)
            const isTls = beginsTls(held.prefix)
            if (opened === undefined)
              return serveRouted(this.#options, { call, rules: connections, pipe, held, isTls })
            const spoken = isTls ? 'tls' : 'bytes'
            new TcpCall(call, this.#options, pipe, spoken).take(opened, release)
          },
        )
    }
  }

  #refused({ peer, peerIdentity }: IncomingTunnel, reason: EndReason, message: string): void {
    this.#options.onRefused({ peer, peerIdentity, reason, message })
  }
}

function callOf(source: CallSource, decision: Served): Call {
  const { called, target, backend, service, workload } = decision
  return { source, called, target, backend, service, workload, startedAt: performance.now() }
}

type Served = Extract<TunnelDecision, { readonly kind: 'serve' }>
