// SPDX-License-Identifier: Apache-2.0
// The delta discovery client: keeps one stream to the control plane, for ever, and feeds what arrives to the consumers.
// Losing the control plane loses nothing: what was learned stays, and a new stream asks only for what has changed.

import { readFile } from 'node:fs/promises'
import {
  Client,
  type ClientDuplexStream,
  connectivityState,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js'
import { Backoff, delay } from '../async/backoff.ts'
import { errorMessage } from '../errors.ts'
import {
  AggregatedDiscoveryService,
  type DeltaDiscoveryRequest,
  type DeltaDiscoveryResponse,
} from '../proto/gen/discovery_pb.js'
import { readRoots, type RootSource } from '../identity/root-source.ts'
import type { Logger } from '../telemetry/log.ts'
import { grpcMethod } from '../grpc/method.ts'
import { type NodeIdentity, nodeMessage } from './node.ts'
import { secureChannel } from '../grpc/channel.ts'
import { excerpt } from '../telemetry/excerpt.ts'
import { LogBudget } from '../telemetry/log-budget.ts'
import type { ServiceRoute } from '../grpc/service-route.ts'
import type { ResourceProblem } from './resource-type.ts'
import type { HeldResources } from './digest.ts'
import { type FollowedType, PROBLEMS_NAMED } from './subscription.ts'
import { MAX_MESSAGE_BYTES } from './protocol.ts'

/** TCP, TLS and HTTP/2 set-up together; beyond this the address is as good as dead. */
const CONNECT_TIMEOUT_MS = 10_000
/** Finds a peer that vanished without a FIN; above the shortest interval Istio's server tolerates (15 s). */
const KEEPALIVE_TIME_MS = 30_000
const KEEPALIVE_TIMEOUT_MS = 10_000

/** Lines about what a control plane sends that makes no sense: one that has gone mad sends it without an end. */
const CONTROL_PLANE_LINES = { burst: 100, perSecond: 1 }

/** The reason of an end that the other side wished. */
const CLOSED = 'the control plane closed the stream'

const DELTA = grpcMethod(AggregatedDiscoveryService.method.deltaAggregatedResources)

export type XdsConnectionState =
  | { readonly kind: 'connecting' }
  | { readonly kind: 'connected' }
  /** `retryInMs` is the wait before the next attempt. */
  | { readonly kind: 'disconnected'; readonly reason: string; readonly retryInMs: number }

/** How a stream ended, in the words of ztunnel's metric. */
export type StreamEnd = 'ConnectionError' | 'Error' | 'Reconnect' | 'Complete'

export interface XdsClientOptions {
  /** host:port of the control plane. */
  readonly address: string
  /** PEM of the roots that may have signed the server's certificate; read anew for each connection. */
  readonly roots: RootSource
  /** The name the server's certificate must bear, when it is not the host in `address`. */
  readonly serverName?: string
  /** Asked before each connection where that address is to be dialled; without one, by its name. */
  readonly route?: Pick<ServiceRoute, 'dial'> | undefined
  /** A bearer token; read anew for each connection, as the kubelet renews it. */
  readonly tokenFile?: string
  readonly node: NodeIdentity
  /** What is followed; one subscription a type. */
  readonly subscriptions: readonly FollowedType[]
  readonly logger: Logger
  /** Called once, when the first response of each type that is not optional has been applied; Subscription.synced tells of one type. */
  readonly onSynced?: () => void
  readonly onConnectionState?: (state: XdsConnectionState) => void
  readonly onProblems?: (typeUrl: string, problems: readonly ResourceProblem[]) => void
  /** A stream ended that was not stopped. */
  readonly onEnd?: (end: StreamEnd) => void
  /** Called for each response of a type that is followed, with the bytes of its resources. */
  readonly onResponse?: (typeUrl: string, bytes: number) => void
}

type DeltaStream = ClientDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>

/** Follows the control plane from `start()` until `stop()`. */
export class XdsClient {
  readonly #options: XdsClientOptions
  readonly #subscriptions: ReadonlyMap<string, FollowedType>
  readonly #stopping = new AbortController()
  #running: Promise<void> | undefined
  #hasSynced = false
  #stream: DeltaStream | undefined
  /** Why the connection being made is to be left as soon as it stands: its roots may have been read before. */
  #leaveFor: string | undefined
  /** Whether the last stream was accepted by the control plane. */
  #hasStood = false
  /** The wait before the next attempt. */
  #pause: AbortController | undefined
  /** Why the last attempt failed; undefined since a response was handled. */
  #lastReason: string | undefined
  readonly #strange = new LogBudget(CONTROL_PLANE_LINES)
  readonly #refused = new LogBudget(CONTROL_PLANE_LINES)
  /** Failed attempts since a response was last handled. */
  readonly #backoff = new Backoff()

  constructor(options: XdsClientOptions) {
    this.#options = options
    this.#subscriptions = new Map(
      options.subscriptions.map((subscription) => [subscription.typeUrl, subscription]),
    )
  }

  start(): void {
    this.#running ??= this.#run()
  }

  /** Ends the stream and the retries; resolves when nothing is left of them. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
  }

  /** Leaves the connection for a new one, made with the roots and the token of now. Nothing that was learned is lost. */
  reconnect(reason: string): void {
    this.#leaveFor = reason
    this.#stream?.destroy(new Error(reason))
    // What was in vain before may not be now.
    this.#backoff.reset()
    this.#pause?.abort()
  }

  get isSynced(): boolean {
    return this.#hasSynced
  }

  /** What is held of each type, by type URL. */
  held(): Readonly<Record<string, HeldResources>> {
    return Object.fromEntries(
      [...this.#subscriptions].map(([typeUrl, subscription]) => [typeUrl, subscription.held]),
    )
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping
    const { logger, address, onConnectionState } = this.#options
    while (!signal.aborted) {
      onConnectionState?.({ kind: 'connecting' })
      const reason = await this.#followOnce(signal).catch(errorMessage)
      if (signal.aborted) return
      this.#options.onEnd?.(this.#endOf(reason))
      const retryInMs = this.#backoff.next()
      // The same again and again is news once.
      const level = reason === this.#lastReason ? 'debug' : 'warn'
      this.#lastReason = reason
      logger[level](
        { address, reason, retryInMs: Math.round(retryInMs) },
        'discovery stream ended; trying again until it stands',
      )
      onConnectionState?.({ kind: 'disconnected', reason, retryInMs })
      this.#pause = new AbortController()
      await delay(retryInMs, AbortSignal.any([signal, this.#pause.signal]))
      this.#pause = undefined
    }
  }

  #endOf(reason: string): StreamEnd {
    if (this.#leaveFor !== undefined) return 'Reconnect'
    if (!this.#hasStood) return 'ConnectionError'
    return reason === CLOSED ? 'Complete' : 'Error'
  }

  /** Connects and serves one stream to its end; gives the reason of the end. */
  async #followOnce(signal: AbortSignal): Promise<string> {
    this.#leaveFor = undefined
    this.#hasStood = false
    const client = await this.#connect()
    try {
      const metadata = await this.#metadata()
      if (signal.aborted) return 'stopped'
      if (this.#leaveFor !== undefined) return this.#leaveFor
      const stream = client.makeBidiStreamRequest(
        DELTA.path,
        DELTA.requestSerialize,
        DELTA.responseDeserialize,
        metadata,
      )
      this.#stream = stream
      using _deadline = connectDeadline(client, stream)
      return await this.#serve(stream, signal)
    } finally {
      this.#stream = undefined
      client.close()
    }
  }

  async #connect(): Promise<Client> {
    const { route } = this.#options
    const dialled = (await route?.dial(this.#options.address)) ?? this.#options
    const { address, serverName = this.#options.serverName } = dialled
    const roots = await readRoots(this.#options.roots).catch((cause: unknown) => {
      throw new Error(`Cannot read the root certificates: ${errorMessage(cause)}`, { cause })
    })
    const channel = secureChannel(address, Buffer.from(roots), serverName)
    return new Client(address, channel.credentials, {
      ...channel.options,
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
      'grpc.keepalive_time_ms': KEEPALIVE_TIME_MS,
      'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
      // Each attempt is a connection of its own, with the roots of the moment; retries are ours.
      'grpc.use_local_subchannel_pool': 1,
      'grpc.enable_retries': 0,
      'grpc.service_config_disable_resolution': 1,
    })
  }

  async #metadata(): Promise<Metadata> {
    const { tokenFile, node } = this.#options
    const metadata = new Metadata()
    metadata.set('clusterid', node.clusterId)
    if (tokenFile === undefined) return metadata
    const token = await readFile(tokenFile, 'utf8').catch((cause: unknown) => {
      throw new Error(`Cannot read the token: ${errorMessage(cause)}`, { cause })
    })
    metadata.set('authorization', `Bearer ${token.trim()}`)
    return metadata
  }

  #serve(stream: DeltaStream, signal: AbortSignal): Promise<string> {
    const { promise, resolve } = Promise.withResolvers<string>()
    const cancel = (): void => stream.cancel()
    signal.addEventListener('abort', cancel, { once: true })
    stream.once('metadata', () => {
      this.#hasStood = true
      this.#options.onConnectionState?.({ kind: 'connected' })
    })
    stream.on('data', (response: DeltaDiscoveryResponse) => this.#onResponse(stream, response))
    stream.on('error', (error: Error) => resolve(streamEndReason(error)))
    stream.on('end', () => resolve(CLOSED))
    const node = nodeMessage(this.#options.node)
    for (const subscription of this.#subscriptions.values())
      stream.write(subscription.openingRequest(node))
    return promise.finally(() => signal.removeEventListener('abort', cancel))
  }

  #onResponse(stream: DeltaStream, response: DeltaDiscoveryResponse): void {
    const { logger, onProblems } = this.#options
    const { typeUrl } = response
    const subscription = this.#subscriptions.get(typeUrl)
    if (subscription === undefined) {
      const keptBack = this.#strange.take()
      if (keptBack !== undefined)
        logger.warn(
          { typeUrl: excerpt(typeUrl), keptBack },
          'ignoring a response of a type nobody asked for',
        )
      return
    }
    this.#options.onResponse?.(typeUrl, resourceBytes(response))
    let handled
    try {
      handled = subscription.handle(response)
    } catch (thrown) {
      // A fault of ours in applying it. It must not take the data path down; the next stream asks for the same again.
      logger.error({ typeUrl, error: thrown }, 'cannot apply a response')
      stream.destroy(new Error(`cannot apply a response: ${errorMessage(thrown)}`))
      return
    }
    const { reply, problems } = handled
    this.#backoff.reset()
    this.#lastReason = undefined
    if (problems.length > 0) {
      // A schema that we do not understand makes as many as there are pods.
      const shown = problems.slice(0, PROBLEMS_NAMED)
      const keptBack = this.#refused.take()
      if (keptBack !== undefined)
        logger.error(
          { typeUrl, problems: shown, refused: problems.length, keptBack },
          'refused resources from the control plane',
        )
      onProblems?.(typeUrl, problems)
    }
    stream.write(reply)
    this.#noteSync()
  }

  #noteSync(): void {
    if (this.#hasSynced) return
    for (const { isOptional, isSynced } of this.#subscriptions.values())
      if (!isOptional && !isSynced) return
    this.#hasSynced = true
    this.#options.onSynced?.()
  }
}

function resourceBytes({ resources }: DeltaDiscoveryResponse): number {
  return resources.reduce((sum, { resource }) => sum + (resource?.value.length ?? 0), 0)
}

/** Ends the stream unless the channel is up in time; a refused connection ends it at once by itself. */
function connectDeadline(client: Client, stream: DeltaStream): Disposable {
  const timer = setTimeout(() => {
    const state = client.getChannel().getConnectivityState(false)
    if (state === connectivityState.READY) return
    stream.destroy(new Error(`no connection after ${CONNECT_TIMEOUT_MS} ms`))
  }, CONNECT_TIMEOUT_MS)
  return { [Symbol.dispose]: () => clearTimeout(timer) }
}

function streamEndReason(error: Error): string {
  const { code, details } = error as Partial<ServiceError>
  if (code === undefined) return error.message
  return `${status[code] ?? code}: ${details ?? error.message}`
}
