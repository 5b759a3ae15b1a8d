// SPDX-License-Identifier: Apache-2.0
// Opens connections to endpoints: chooses one, reaches it by HBONE or in plain, and tries another one where it cannot be had. What was
// opened carries the calls of one client only: the far agent was told whom it is for.

import type { Duplex } from 'node:stream'
import type { Attempt, EndpointExperience } from '../../mesh/balance/endpoint-experience.ts'
import { isEndpointsFault, isWorthRetrying } from '../../mesh/balance/endpoints-fault.ts'
import type { CutSignal } from '../../mesh/async/cut.ts'
import { CONNECT_DEADLINE_MS } from '../../mesh/hbone/limits.ts'
import type { HboneFailure, HbonePool } from '../../mesh/hbone/types.ts'
import { formatSocketAddress } from '../../mesh/model/address.ts'
import type { BackendTls } from '../../mesh/model/backend-tls.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type {
  GatewayAddress,
  SocketAddress,
  SpiffeId,
  WorkloadUid,
} from '../../mesh/model/types.ts'
import { SocketPipe } from '../../mesh/relay/socket-pipe.ts'
import type { StartedPipe } from '../../mesh/relay/started-pipe.ts'
import { StreamPipe } from '../../mesh/relay/stream-pipe.ts'
import { err, ok, type Result } from '../../mesh/result.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import type { Backend, RequestSource } from '../exchange/types.ts'
import type { Endpoint } from '../exchange/upstream-connection.ts'
import { chooseUpstream, type UpstreamChoice } from './choose-upstream.ts'
import type { Dial } from './dial.ts'
import { failureOf, originateTls, type Spoken } from './originate-tls.ts'
import { tlsPipe } from './tls-pipe.ts'
import { isBoundPod, upstreamHeaders } from './tunnel-headers.ts'

/**
 * Endpoints tried for one connection: a pod that has just gone fails fast, and one or two others are enough to hide it; more would turn
 * an outage of the service into a storm.
 */
export const MAX_TRIES = 3

/** Why a connection is called off whose request has waited for as long as its route allows. */
const LATE: EndReason = 'connectTimeout'
/**
 * What takes so long is the endpoint's fault, whatever time the route has; or requests that wait for less than a connection does would find
 * one that swallows them again and again. Routes with less time than a handshake takes say nothing of it.
 */
const LATE_MS = 500

export interface UpstreamsOptions {
  readonly mesh: MeshState
  readonly network: string
  readonly pool: Pick<HbonePool, 'open'>
  readonly dial: Dial
  /** The waypoint's own. */
  readonly identity: SpiffeId
  readonly experience: EndpointExperience
  /** Whether what is bound so is bound to this waypoint. */
  readonly isOwn: (waypoint: GatewayAddress | undefined) => boolean
  readonly random?: () => number
  readonly now?: () => number
}

/** A call that is to go on. */
export interface UpstreamCall {
  readonly backend: Backend
  readonly source: RequestSource
  /** What was called. */
  readonly target: SocketAddress
  /** The endpoint to choose if it is fit: a session is there. */
  readonly preferred?: SocketAddress | undefined
  /** What goes over it. `tls`: the client's own, which is carried as it is; else it is for a BackendTLSPolicy to ask for TLS. */
  readonly spoken: Spoken | 'tls'
}

/** An endpoint that was chosen, and counts as used until its attempt ends. */
export type ChosenUpstream = Exclude<UpstreamChoice, { readonly kind: 'none' }> & {
  readonly attempt: Attempt
  /** How TLS is spoken to it; undefined: it is not. */
  readonly tls: BackendTls | undefined
}

/** A connection to an endpoint. Its pipe is not started; its attempt is to be ended when the connection is not in use any more. */
export interface OpenedUpstream {
  readonly pipe: StartedPipe
  readonly endpoint: Endpoint
  readonly chosen: ChosenUpstream
  readonly attempt: Attempt
  /** What the peer has proved; undefined in plain. */
  readonly peerIdentity: SpiffeId | undefined
}

export class Upstreams {
  readonly #options: UpstreamsOptions

  constructor(options: UpstreamsOptions) {
    this.#options = options
  }

  /** Chooses an endpoint that is not among those to be avoided. */
  choose(
    { backend, source, target, preferred, spoken }: UpstreamCall,
    exclude: ReadonlySet<WorkloadUid> | undefined,
  ): Result<ChosenUpstream, HboneFailure> {
    const { mesh, network, experience, random = Math.random } = this.#options
    // What says of a Service how its pods are called says nothing of a pod that is called by its own address.
    const tls =
      backend.kind === 'service' && spoken !== 'tls'
        ? mesh.backendTls.find(backend.service, backend.port)
        : undefined
    // Nobody can be trusted: in plain, what is meant for TLS goes nowhere.
    if (tls?.fault !== undefined) return err(failureOf(tls, tls.fault))
    const choice = chooseUpstream({
      mesh,
      network,
      backend,
      source,
      called: target.address,
      preferred,
      experience,
      random,
      exclude,
    })
    return choice.kind === 'none'
      ? err({ reason: choice.reason, message: choice.message })
      : ok({ ...choice, attempt: experience.begin(choice.endpoint), tls })
  }

  /** Connects to what was chosen, and to others where that fails and they may do better. */
  async open(
    call: UpstreamCall,
    signal: CutSignal,
    first = this.choose(call, undefined),
    tries = MAX_TRIES,
  ): Promise<Result<OpenedUpstream, HboneFailure>> {
    let chosen = first
    let failed: Result<never, HboneFailure> | undefined
    const exclude = new Set<WorkloadUid>()
    for (let tried = 1; chosen.ok; tried += 1) {
      const opened = await this.#connect(call, chosen.value, signal)
      if (opened.ok) return opened
      failed = opened
      if (call.backend.kind === 'workload' || signal.aborted) break
      if (tried === tries || !isWorthRetrying(opened.error)) break
      exclude.add(chosen.value.endpoint.endpoint)
      chosen = this.choose(call, exclude)
    }
    // Nothing else is left to try: what failed says more than that.
    return failed ?? (chosen.ok ? err(NEVER_TRIED) : chosen)
  }

  async #connect(
    call: UpstreamCall,
    chosen: ChosenUpstream,
    signal: CutSignal,
  ): Promise<Result<OpenedUpstream, HboneFailure>> {
    const { attempt, workload, target } = chosen
    const { now = () => performance.now() } = this.#options
    const begunAt = now()
    const made = await (chosen.kind === 'hbone'
      ? this.#openTunnel(call, chosen, signal)
      : this.#connectPlain(call, chosen, signal))
    if (!made.ok) {
      if (isEndpointsFault(made.error)) attempt.failed(made.error.message)
      else if (signal.reason === LATE && now() - begunAt >= LATE_MS)
        attempt.failed('it did not take the connection in the time that its route has')
      attempt.end()
      return made
    }
    attempt.opened()
    return ok({ ...made.value, endpoint: { address: target, workload }, chosen, attempt })
  }

  async #openTunnel(
    { source, spoken }: UpstreamCall,
    chosen: Extract<ChosenUpstream, { readonly kind: 'hbone' }>,
    signal: CutSignal,
  ): Promise<Result<Pick<OpenedUpstream, 'pipe' | 'peerIdentity'>, HboneFailure>> {
    const { mesh, pool, identity, isOwn } = this.#options
    const { peer, expectedIdentities, target, service, workload, tls } = chosen
    const opened = await pool.open(
      { sourceIdentity: identity, sourceIp: undefined, destination: peer, expectedIdentities },
      formatSocketAddress(target),
      upstreamHeaders(source, { service, isBound: isBoundPod(mesh, workload, isOwn) }),
      signal,
    )
    if (!opened.ok) return opened
    const { bare, peerIdentity } = opened.value
    if (tls === undefined) return ok({ pipe: new StreamPipe(bare, 'server'), peerIdentity })
    const pipe = await securedPipe(bare.asStream(), tls, spoken, signal)
    return pipe.ok ? ok({ pipe: pipe.value, peerIdentity }) : pipe
  }

  async #connectPlain(
    { spoken }: UpstreamCall,
    { target, tls }: ChosenUpstream,
    signal: CutSignal,
  ): Promise<Result<Pick<OpenedUpstream, 'pipe' | 'peerIdentity'>, HboneFailure>> {
    const how = { timeoutMs: CONNECT_DEADLINE_MS, timeoutReason: 'connectFailed' } as const
    const dialled = await this.#options.dial(target, how, signal)
    if (!dialled.ok) return dialled
    const pipe =
      tls === undefined
        ? ok(new SocketPipe(dialled.value, 'server'))
        : await securedPipe(dialled.value, tls, spoken, signal)
    return pipe.ok ? ok({ pipe: pipe.value, peerIdentity: undefined }) : pipe
  }
}

/** Shakes hands, and gives the TLS as a pipe. */
async function securedPipe(
  under: Duplex,
  tls: BackendTls,
  spoken: UpstreamCall['spoken'],
  signal: CutSignal,
): Promise<Result<SocketPipe, HboneFailure>> {
  const secured = await originateTls(under, tls, spoken === 'tls' ? 'bytes' : spoken, signal)
  return secured.ok ? ok(tlsPipe(secured.value)) : secured
}

const NEVER_TRIED: HboneFailure = { reason: 'internal', message: 'no endpoint was tried' }
