// SPDX-License-Identifier: Apache-2.0
// The client's pool: tunnels of the same source pod to the same peer share HTTP/2 connections.
// One dial per key is under way at a time; whoever asks meanwhile waits for it and shares the outcome.

import type { CutSignal } from '../async/cut.ts'
import { Drain } from '../async/drain.ts'
import type { WorkloadCertificate } from '../identity/types.ts'
import { type Result, err, ok } from '../result.ts'
import { type ClientConnection, type OpenFailure, establishClient } from './client.ts'
import { abandoned, connectSecured } from './connect.ts'
import { CUT_CODE, type DistrustReason } from './cut-code.ts'
import type { LifetimeTuning, LiveConnection } from './lifetime.ts'
import { IDLE_RELEASE_MS, MAX_IDLE_PER_PEER } from './limits.ts'
import { isOvertaken } from './trust-change.ts'
import type {
  HboneFailure,
  HbonePool,
  HbonePoolOptions,
  OpenedTunnel,
  PoolTarget,
  TunnelHeaders,
} from './types.ts'

interface Dial {
  readonly outcome: Promise<Result<ClientConnection, HboneFailure>>
  readonly abort: AbortController
  waiters: number
}

interface Entry {
  readonly key: string
  readonly target: PoolTarget
  readonly connections: Set<ClientConnection>
  dial: Dial | undefined
}

const DRAINING: HboneFailure = { reason: 'drained', message: 'the pool is draining' }

const NO_ROOM: HboneFailure = {
  reason: 'hboneRefused',
  message: 'the peer takes no tunnels on a new connection',
}
/**
 * A failed replacement is tried again after this, then after twice as long and so on: a peer that is only just starting should not
 * keep new tunnels on a connection that is to go. And at half of what is left at the latest, unless that is less than this.
 */
const REPLACE_AGAIN_MS = 1_000
/** And no later than this: what it is to replace may last for a day, and the clock may have been set back meanwhile. */
const LONGEST_REPLACE_AGAIN_MS = 5 * 60_000
const NONE: ReadonlySet<ClientConnection> = new Set()

/** For tests; defaults to those of limits.ts. */
export interface PoolTimes {
  readonly idleReleaseMs?: number
  readonly answerDeadlineMs?: number
  readonly lifetime?: LifetimeTuning
}

/** Makes a pool; it lives as long as the pod whose connections it carries. */
export function createHbonePool(options: HbonePoolOptions & PoolTimes): HbonePool {
  return new Pool(options, options.idleReleaseMs ?? IDLE_RELEASE_MS)
}

class Pool implements HbonePool {
  readonly #options: HbonePoolOptions & PoolTimes
  readonly #idleReleaseMs: number
  readonly #entries = new Map<string, Entry>()
  readonly #idle = new Map<ClientConnection, NodeJS.Timeout>()
  readonly #live = new Drain<ClientConnection>()
  #isDraining = false

  constructor(options: HbonePoolOptions & PoolTimes, idleReleaseMs: number) {
    this.#options = options
    this.#idleReleaseMs = idleReleaseMs
  }

  async open(
    target: PoolTarget,
    authority: string,
    headers: TunnelHeaders,
    signal: CutSignal,
  ): Promise<Result<OpenedTunnel, HboneFailure>> {
    const first = await this.#tryOpen(target, authority, headers, signal, NONE)
    if (first.ok || !first.error.isUnprocessed) return first
    // The pooled connection died or refused before it acted on us: once more, on a connection made since.
    const suspects = new Set(this.#entryOf(target).connections)
    return this.#tryOpen(target, authority, headers, signal, suspects)
  }

  connectionCount(): number {
    return this.#live.size
  }

  closeWhere(
    isDistrusted: (connection: LiveConnection) => boolean,
    reason: DistrustReason = 'peerDistrusted',
  ): number {
    const closing = [...this.#live].filter(isDistrusted)
    for (const connection of closing) connection.destroy(CUT_CODE[reason])
    return closing.length
  }

  leaveWhere(isOutdated: (connection: LiveConnection) => boolean): void {
    for (const entry of this.#entries.values())
      for (const connection of [...entry.connections])
        if (isOutdated(connection)) {
          if (connection.openTunnels === 0) connection.goAway()
          else void this.#replace(entry, connection)
        }
  }

  async drain(deadlineMs: number): Promise<{ readonly cut: number }> {
    this.#isDraining = true
    for (const entry of this.#entries.values()) entry.dial?.abort.abort()
    for (const timer of this.#idle.values()) clearTimeout(timer)
    this.#idle.clear()
    for (const connection of this.#live) connection.goAway()
    return this.#live.drain(deadlineMs, (connection) => {
      const { openTunnels } = connection
      connection.destroy()
      return openTunnels
    })
  }

  async #tryOpen(
    target: PoolTarget,
    authority: string,
    headers: TunnelHeaders,
    signal: CutSignal,
    avoid: ReadonlySet<ClientConnection>,
  ): Promise<Result<OpenedTunnel, OpenFailure>> {
    for (;;) {
      if (this.#isDraining) return err({ ...DRAINING, isUnprocessed: false })
      if (signal.aborted) return err({ ...abandoned(), isUnprocessed: false })
      const entry = this.#entryOf(target)
      const pooled = withRoom(entry, avoid)
      if (pooled !== undefined) {
        this.#cancelIdle(pooled)
        return pooled.open(authority, headers, signal)
      }
      const dialled = await this.#shareDial(entry, signal)
      if (!dialled.ok) {
        const isUnprocessed = dialled.error === NO_ROOM
        return err({ ...(this.#isDraining ? DRAINING : dialled.error), isUnprocessed })
      }
      if (dialled.value.capacity === 0) return err({ ...NO_ROOM, isUnprocessed: true })
    }
  }

  /** Joins the dial under way or starts one; it is given up when nobody waits for it any more. */
  async #shareDial(
    entry: Entry,
    signal: CutSignal,
  ): Promise<Result<ClientConnection, HboneFailure>> {
    const dial = (entry.dial ??= this.#startDial(entry))
    dial.waiters += 1
    const gaveUp = Promise.withResolvers<Result<never, HboneFailure>>()
    const onAbort = (): void => {
      dial.waiters -= 1
      if (dial.waiters === 0) {
        dial.abort.abort()
        // Whoever comes now must not join a dial that was given up.
        if (entry.dial === dial) entry.dial = undefined
      }
      gaveUp.resolve(err(abandoned()))
    }
    signal.addEventListener('abort', onAbort)
    const outcome = await Promise.race([dial.outcome, gaveUp.promise])
    signal.removeEventListener('abort', onAbort)
    return outcome
  }

  #startDial(entry: Entry): Dial {
    const abort = new AbortController()
    const outcome = this.#dial(entry, abort.signal).then((result) => {
      if (entry.dial === dial) entry.dial = undefined
      this.#forgetIfEmpty(entry)
      return result
    })
    const dial: Dial = { outcome, abort, waiters: 0 }
    return dial
  }

  async #dial(entry: Entry, signal: AbortSignal): Promise<Result<ClientConnection, HboneFailure>> {
    const { sourceIdentity } = entry.target
    let certificate = await this.#options.certificate(sourceIdentity, signal)
    for (;;) {
      if (!certificate.ok) return certificate
      const made = await this.#dialWith(certificate.value, entry, signal)
      // Whoever follows changes of trust saw no connection yet. A certificate that came during the handshake may be there for other
      // roots: what stands on the one before would be cut with them, and did not ask these whom to trust.
      const current = await this.#options.certificate(sourceIdentity, signal)
      if (this.#isDraining || signal.aborted) {
        if (made.ok) made.value.destroy()
        return err(this.#isDraining ? DRAINING : abandoned())
      }
      if (current.ok && isOvertaken(certificate.value, current.value)) {
        if (made.ok) made.value.destroy()
        certificate = current
        continue
      }
      return made.ok ? this.#enter(entry, made.value) : made
    }
  }

  async #dialWith(
    certificate: WorkloadCertificate,
    entry: Entry,
    signal: AbortSignal,
  ): Promise<Result<ClientConnection, HboneFailure>> {
    const secured = await connectSecured(entry.target, certificate, this.#options, signal)
    if (!secured.ok) return secured
    const made: { connection?: ClientConnection } = {}
    const { answerDeadlineMs, owner, memory, wayToPeer, engine } = this.#options
    const established = await establishClient(secured.value, {
      ...(answerDeadlineMs === undefined ? {} : { answerDeadlineMs }),
      ...(owner === undefined ? {} : { owner }),
      memory,
      ...(wayToPeer === undefined ? {} : { wayToPeer }),
      ...(engine === undefined ? {} : { engine }),
      ...(this.#options.lifetime && { lifetime: this.#options.lifetime }),
      onEnding: (ending) => void this.#replace(entry, ending),
      onTunnelClosed: () => {
        if (made.connection !== undefined) this.#watchIdle(entry, made.connection)
      },
      onClosed: () => {
        if (made.connection !== undefined) this.#remove(entry, made.connection)
      },
    })
    if (established.ok) made.connection = established.value
    return established
  }

  #enter(entry: Entry, connection: ClientConnection): Result<ClientConnection, HboneFailure> {
    // It says that it takes no tunnels, or is gone already: to keep it would be of no use and cost a descriptor for each call.
    if (connection.capacity === 0) {
      connection.goAway()
      return err(NO_ROOM)
    }
    entry.connections.add(connection)
    this.#live.enter(connection)
    this.#watchIdle(entry, connection)
    return ok(connection)
  }

  /** Makes the connection that takes the place of one whose certificates end, so that no call has to wait for it. */
  async #replace(
    entry: Entry,
    ending: ClientConnection,
    againMs = REPLACE_AGAIN_MS,
  ): Promise<void> {
    if (this.#isDraining || !this.#live.has(ending)) return
    if (withRoom(entry, new Set([ending])) !== undefined) return ending.goAway()
    const dial = (entry.dial ??= this.#startDial(entry))
    dial.waiters += 1 // we wait until it is done, so nobody else's giving up ends it
    const made = await dial.outcome
    if (made.ok) return ending.goAway()
    // It serves as long as it may, for a call that waits for a dial which fails is worse off.
    const waitMs = Math.min(againMs, ending.leftMs / 2, LONGEST_REPLACE_AGAIN_MS)
    if (waitMs >= REPLACE_AGAIN_MS)
      setTimeout(() => void this.#replace(entry, ending, 2 * waitMs), waitMs).unref()
  }

  #watchIdle(entry: Entry, connection: ClientConnection): void {
    if (connection.openTunnels > 0 || !this.#live.has(connection) || this.#isDraining) return
    this.#cancelIdle(connection)
    // A peer that lets few tunnels share a connection must not make each of a pod's former calls hold a descriptor of the agent.
    if (this.#idleOf(entry) >= MAX_IDLE_PER_PEER) return connection.goAway()
    const timer = setTimeout(() => {
      this.#idle.delete(connection)
      connection.goAway()
    }, this.#idleReleaseMs)
    timer.unref()
    this.#idle.set(connection, timer)
  }

  #idleOf({ connections }: Entry): number {
    let idle = 0
    for (const connection of connections) if (this.#idle.has(connection)) idle += 1
    return idle
  }

  #cancelIdle(connection: ClientConnection): void {
    clearTimeout(this.#idle.get(connection))
    this.#idle.delete(connection)
  }

  #remove(entry: Entry, connection: ClientConnection): void {
    this.#cancelIdle(connection)
    entry.connections.delete(connection)
    this.#live.leave(connection)
    this.#forgetIfEmpty(entry)
  }

  #entryOf(target: PoolTarget): Entry {
    const key = poolKey(target)
    let entry = this.#entries.get(key)
    if (entry === undefined) {
      entry = { key, target, connections: new Set(), dial: undefined }
      this.#entries.set(key, entry)
    }
    return entry
  }

  #forgetIfEmpty(entry: Entry): void {
    if (entry.connections.size === 0 && entry.dial === undefined) this.#entries.delete(entry.key)
  }
}

/** The oldest connection with room: new ones are made only when the others are full. */
function withRoom(
  entry: Entry,
  avoid: ReadonlySet<ClientConnection>,
): ClientConnection | undefined {
  for (const connection of entry.connections)
    if (connection.openTunnels < connection.capacity && !avoid.has(connection)) return connection
  return undefined
}

function poolKey(target: PoolTarget): string {
  const { address, port } = target.destination
  return `${target.sourceIdentity} ${target.sourceIp ?? ''} ${address} ${port} ${[...target.expectedIdentities].sort().join(' ')}`
}
