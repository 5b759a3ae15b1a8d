// SPDX-License-Identifier: Apache-2.0
// Tells a pod's owner by an event of the pod what it was refused: calls into it, by policy, or its certificate. One event for each policy
// and rule, however many calls: its count goes up once in a while, as Kubernetes' own components do it.

import { EVENTS, type KubeApi, type KubeFailure } from '../../mesh/kube/index.ts'
import { Bucket } from '../../mesh/async/bucket.ts'
import type { AuditEvent, AuditKind } from '../../mesh/audit/event.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { type EventTarget, podWarning } from '../enrolment/index.ts'

export interface DenialEventsOptions {
  readonly api: KubeApi
  readonly nodeName: string
  readonly log: Logger
  readonly signal: AbortSignal
  /** How long more of the same may stay untold, in milliseconds; tests have less patience. */
  readonly updateMs?: number
}

const UPDATE_MS = 60_000
/** Kinds of denials that are told of at a time; the longest untouched give way. */
const MAX_KINDS = 500
/** Calls to the API server: whoever is refused by many pods must not keep it busy. */
const CALLS = { burst: 25, perSecond: 1 }

/** One word for filters, by what was refused. */
const REASONS: Readonly<Partial<Record<AuditKind, string>>> = {
  'connection.closed': 'ConnectionsClosed',
  'certificate.refused': 'CertificateRefused',
}

interface Told {
  readonly pod: EventTarget
  readonly reason: string
  message: string
  count: number
  /** The event's name, once there is one. */
  posted: string | undefined
  told: number
}

export class DenialEvents {
  readonly #options: DenialEventsOptions
  /** By pod, reason, object and rule; the longest untouched first. */
  readonly #kinds = new Map<string, Told>()
  readonly #calls = new Bucket(CALLS)
  #timer: NodeJS.Timeout | undefined

  constructor(options: DenialEventsOptions) {
    this.#options = options
    options.signal.addEventListener('abort', () => clearTimeout(this.#timer), { once: true })
  }

  /** Takes `count` denials of one kind; returns at once. Best effort: the audit has each of them. */
  note(pod: EventTarget, event: AuditEvent, count: number): void {
    if (this.#options.signal.aborted) return
    const reason = REASONS[event.kind] ?? 'CallsDenied'
    const { object = '', rule, who, what, why } = event
    const key = [pod.uid, reason, object, rule].join('|')
    const relation = event.kind === 'certificate.refused' ? 'gets no certificate as' : 'to'
    const message = `${who} ${relation} ${what}: ${why}${object === '' ? '' : ` (${object})`}`
    const known = this.#kinds.get(key)
    const told = known ?? { pod, reason, message, count: 0, posted: undefined, told: 0 }
    told.message = message
    told.count += count
    this.#kinds.delete(key)
    this.#kinds.set(key, told)
    if (this.#kinds.size > MAX_KINDS)
      for (const [oldest] of this.#kinds) return void this.#kinds.delete(oldest)
    if (known === undefined) this.#tell(told)
    else this.#tellLater()
  }

  #tellLater(): void {
    this.#timer ??= setTimeout(() => this.#update(), this.#options.updateMs ?? UPDATE_MS).unref()
  }

  #update(): void {
    this.#timer = undefined
    for (const told of this.#kinds.values()) if (told.count > told.told) this.#tell(told)
  }

  #tell(told: Told): void {
    if (!this.#calls.take()) {
      this.#tellLater()
      return
    }
    this.#send(told).catch((thrown: unknown) =>
      this.#options.log.error({ error: thrown }, 'telling of denials failed'),
    )
  }

  async #send(told: Told): Promise<void> {
    const { api, nodeName, signal } = this.#options
    const { pod, reason, message, count, posted } = told
    told.told = count
    const { namespace } = pod
    const event = { ...podWarning({ pod, nodeName, reason, message }), count }
    if (posted !== undefined) {
      const { lastTimestamp } = event
      const change = { count, lastTimestamp, message: event.message }
      const patched = await api.patch(EVENTS, { namespace, name: posted }, change, { signal })
      if (patched.ok) return
      // An event ends after an hour: then there is a new one.
      if (patched.error.kind !== 'notFound') return this.#lost(told, patched.error)
    }
    const created = await api.create(EVENTS, event, { signal })
    if (created.ok) told.posted = created.value.metadata?.name
    else this.#lost(told, created.error)
  }

  #lost({ pod, reason }: Told, { kind, message }: KubeFailure): void {
    if (kind !== 'aborted')
      this.#options.log.warn({ uid: pod.uid, reason }, `${message}; the event is lost`)
  }
}
