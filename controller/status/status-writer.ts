// SPDX-License-Identifier: Apache-2.0
// Writes what statuses are to say. Runs on the leader only. It writes changes alone, a status that somebody else undoes less and less
// often, and never more than the API server can take beside its other work.

import { Bucket } from '../../mesh/async/bucket.ts'
import { delay } from '../../mesh/async/backoff.ts'
import {
  AUTHORIZATION_POLICIES,
  BACKEND_TLS_POLICIES,
  GATEWAY_CLASSES,
  GATEWAYS,
  GRPC_ROUTES,
  HTTP_ROUTES,
  type KubeApi,
  type KubeResource,
  PEER_AUTHENTICATIONS,
  SERVICES,
  TCP_ROUTES,
  TLS_ROUTES,
} from '../../mesh/kube/index.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { StatusKind, StatusSource, WantedStatus } from './wanted-status.ts'

export interface StatusWriterOptions {
  readonly sources: readonly StatusSource[]
  readonly log: Logger
  /** Ends the writing. */
  readonly signal: AbortSignal
}

const RESOURCES: Readonly<Record<StatusKind, KubeResource>> = {
  AuthorizationPolicy: AUTHORIZATION_POLICIES,
  PeerAuthentication: PEER_AUTHENTICATIONS,
  GatewayClass: GATEWAY_CLASSES,
  Gateway: GATEWAYS,
  Service: SERVICES,
  HTTPRoute: HTTP_ROUTES,
  GRPCRoute: GRPC_ROUTES,
  TCPRoute: TCP_ROUTES,
  TLSRoute: TLS_ROUTES,
  BackendTLSPolicy: BACKEND_TLS_POLICIES,
}
/** Between two looks at all statuses: a change brings acknowledgements of many agents, which are one change of a status. */
const ROUND_MS = 500
/** Of all statuses: ten thousand new ones are written in minutes, and others' writes are not held up. */
const WRITE_RATE = { burst: 100, perSecond: 50 }
/** Until a status is written again that says nothing new but a number: pods come and go. */
const COUNT_PAUSE_MS = 10_000
/** Until the same is written again, doubled each time: somebody else writes something else, or the server drops what we write. */
const REPEAT_PAUSE_MS = 1_000
const LONGEST_PAUSE_MS = 300_000

/** The last write of an object's status. */
interface Written {
  /** Without numbers and times. */
  readonly gist: string
  readonly text: string
  readonly at: number
  readonly repeats: number
}

/** Writes until the signal aborts; resolves when the last write is over. */
export async function writeStatuses(api: KubeApi, options: StatusWriterOptions): Promise<void> {
  const { sources, signal } = options
  const writer = new StatusWriter(api, options)
  let changed = Promise.withResolvers<void>()
  const unsubscribers = sources.map((each) => each.onChange(() => changed.resolve()))
  const onAbort = (): void => changed.resolve()
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    while (!signal.aborted) {
      changed = Promise.withResolvers()
      const nextMs = await writer.round()
      await delay(ROUND_MS, signal)
      await Promise.race([
        changed.promise,
        ...(nextMs === undefined ? [] : [delay(nextMs, signal)]),
      ])
    }
  } finally {
    for (const unsubscribe of unsubscribers) unsubscribe()
    signal.removeEventListener('abort', onAbort)
  }
}

class StatusWriter {
  readonly #api: KubeApi
  readonly #options: StatusWriterOptions
  readonly #rate = new Bucket(WRITE_RATE)
  readonly #written = new Map<string, Written>()

  constructor(api: KubeApi, options: StatusWriterOptions) {
    this.#api = api
    this.#options = options
  }

  /** Writes what is due; gives the time until something else will be, in milliseconds. */
  async round(): Promise<number | undefined> {
    const { sources, signal } = this.#options
    let nextMs: number | undefined
    const now = new Date()
    for (const wanted of sources.flatMap((each) => [...each.differing(now)])) {
      if (this.#pauseBefore(wanted) <= 0) {
        while (!this.#rate.take()) await delay(1000 / WRITE_RATE.perSecond, signal)
        if (signal.aborted) return undefined
        await this.#write(wanted)
      }
      // Whether it took effect is seen by the object, and else looked for: a write may fail.
      const pauseMs = Math.max(0, this.#pauseBefore(wanted))
      nextMs = Math.min(nextMs ?? pauseMs, pauseMs)
    }
    const size = sources.reduce((sum, each) => sum + each.size, 0)
    if (this.#written.size > 2 * size) this.#written.clear()
    return nextMs
  }

  #pauseBefore(wanted: WantedStatus): number {
    const last = this.#written.get(keyOf(wanted.status))
    if (last === undefined) return 0
    if (last.text === textOf(wanted)) {
      const pauseMs = Math.min(LONGEST_PAUSE_MS, REPEAT_PAUSE_MS * 2 ** last.repeats)
      return last.at + pauseMs - performance.now()
    }
    return last.gist === gistOf(wanted) ? last.at + COUNT_PAUSE_MS - performance.now() : 0
  }

  async #write(wanted: WantedStatus): Promise<void> {
    const { log, signal } = this.#options
    const { status, body } = wanted
    const { kind, namespace, name, seen } = status
    const key = keyOf(status)
    const text = textOf(wanted)
    const last = this.#written.get(key)
    const repeats = last?.text === text ? last.repeats + 1 : 0
    this.#written.set(key, { gist: gistOf(wanted), text, at: performance.now(), repeats })
    const patch = {
      // Only of the state that was read: what others wrote into a later one would be undone.
      metadata: { resourceVersion: seen.resourceVersion },
      status: body,
    }
    const written = await this.#api.patch(RESOURCES[kind], { namespace, name }, patch, {
      subresource: 'status',
      fieldManager: FIELD_MANAGER,
      signal,
    })
    if (written.ok || signal.aborted) return
    // Another state of it, or its end, is on its way to us.
    if (written.error.kind === 'conflict' || written.error.kind === 'notFound') return
    log.warn({ kind, namespace, name, reason: written.error.message }, 'cannot write a status')
  }
}

const FIELD_MANAGER = 'ambit-controller'

function keyOf({ kind, namespace, name, seen }: WantedStatus['status']): string {
  return [kind, namespace, name, seen.uid].join('/')
}

/** All that is written but times. */
function textOf({ body }: WantedStatus): string {
  return JSON.stringify(body, (key: string, value: unknown) =>
    key === 'lastTransitionTime' ? undefined : value,
  )
}

function gistOf({ body }: WantedStatus): string {
  return JSON.stringify(body, (key: string, value: unknown) =>
    key === 'lastTransitionTime' || key === 'message' ? undefined : value,
  )
}
