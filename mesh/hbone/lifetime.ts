// SPDX-License-Identifier: Apache-2.0
// No connection outlives the certificates it was opened with: a stolen key, or a pod that has no identity any more, is worth what is
// left of its certificate, not what is left of a connection. A little before the end the connection takes no new tunnels, so that the
// running ones may finish; at the end they are cut.

import type { X509Certificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import type { SpiffeId } from '../model/types.ts'

/** A connection as those see it who ask whether it may go on. */
export interface LiveConnection {
  readonly peerIdentity: SpiffeId
  /** Its certificates can be had from here. */
  readonly socket: TLSSocket
}

/** When a connection begins to leave, as shares of what is left of its certificates when it is opened. */
export interface Lead {
  readonly share: number
  readonly longestMs: number
}

/** An hour is ample for what ends at all. Clients go first, and so have a new connection before the old one takes no more. */
export const CLIENT_LEAD: Lead = { share: 1 / 4, longestMs: 3_600_000 }
/** For clients that do not see to it themselves. Below half of the client's, whose jitter halves it at most. */
export const SERVER_LEAD: Lead = { share: 1 / 9, longestMs: 1_600_000 }
/** Below it leaving early helps nobody. */
const SHORTEST_LEAD_MS = 200
/** The wall clock may be set while a timer runs, and timers do not hear of it: so often at least it is looked at. */
const LOOK_AGAIN_MS = 60_000
/** Clocks of nodes differ: when the other end cuts a connection so shortly before its end, this is why. */
const CLOCK_SKEW_MS = 2_000
/** Longer chains than this are nobody's. */
const LONGEST_CHAIN = 8

/** When the first certificate of either end does, the peer's issuers included; in milliseconds since the epoch. */
export function certificatesEndAt(socket: TLSSocket): number {
  let end = socket.getX509Certificate()?.validToDate.getTime() ?? Number.POSITIVE_INFINITY
  let certificate: X509Certificate | undefined = socket.getPeerX509Certificate()
  for (let depth = 0; certificate !== undefined && depth < LONGEST_CHAIN; depth += 1) {
    end = Math.min(end, certificate.validToDate.getTime())
    certificate = certificate.issuerCertificate
  }
  return end
}

/** For tests. */
export interface LifetimeTuning {
  readonly now?: () => number
  readonly random?: () => number
  readonly lookAgainMs?: number
}

export interface LifetimeOptions extends LifetimeTuning {
  /** In milliseconds since the epoch. */
  readonly endsAt: number
  readonly lead: Lead
  /** Once, a little before the end. */
  readonly onEnding: () => void
  /** Once. */
  readonly onEnd: () => void
}

/** Watches the end of one connection; stop() when it is over. */
export class Lifetime {
  readonly #options: LifetimeOptions
  readonly #now: () => number
  /** Late by half at most, so that connections that were made together do not leave together. */
  readonly #leavesAt: number
  #isEnding = false
  #timer: NodeJS.Timeout | undefined

  constructor(options: LifetimeOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
    const { endsAt, lead } = options
    const longest = Math.min(lead.longestMs, (endsAt - this.#now()) * lead.share)
    const leadMs = longest * (1 - (options.random ?? Math.random)() / 2)
    this.#leavesAt = leadMs < SHORTEST_LEAD_MS ? endsAt : endsAt - leadMs
    this.#wait()
  }

  /** What is left until the end, in milliseconds. */
  get leftMs(): number {
    return this.#options.endsAt - this.#now()
  }

  /** Whether this is the time at which it ends, by one end's clock or the other's. */
  get isOver(): boolean {
    return this.leftMs <= CLOCK_SKEW_MS
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #wait(): void {
    const next = this.#isEnding ? this.#options.endsAt : this.#leavesAt
    const waitMs = Math.min(next - this.#now(), this.#options.lookAgainMs ?? LOOK_AGAIN_MS)
    this.#timer = setTimeout(this.#look, Math.max(1, waitMs)).unref()
  }

  readonly #look = (): void => {
    this.#timer = undefined
    const now = this.#now()
    if (now >= this.#options.endsAt) return this.#options.onEnd()
    if (!this.#isEnding && now >= this.#leavesAt) {
      this.#isEnding = true
      this.#options.onEnding()
    }
    this.#wait()
  }
}
