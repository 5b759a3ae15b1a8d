// SPDX-License-Identifier: Apache-2.0
// Two sockets that their engine joins: their bytes never come here, only their end.

import type { CutSignal } from '../async/cut.ts'
import type { ByteCounts } from '../telemetry/connection-record.ts'
import type { EndReason } from '../telemetry/end-reason.ts'
import { cutReason, type Metered, type RelayListener } from './relay-result.ts'
import { PUMP_ENDS } from './socket-engine.ts'
import { DeafListener, type ThinOwner, type ThinSocket } from './thin-socket.ts'

/** Joins two sockets of one engine until both directions are over: `upstream` one that it has connected. As relay(). */
export function relayThin(
  downstream: ThinSocket,
  upstream: ThinSocket,
  listener: RelayListener,
  signal?: CutSignal,
): void {
  const pair = new ThinPair(downstream, upstream, listener, signal)
  listener.metered(pair)
  pair.start()
}

const NO_BYTES: ByteCounts = { bytesToUpstream: 0, bytesToDownstream: 0 }

class ThinPair extends DeafListener implements ThinOwner, Metered {
  readonly #downstream: ThinSocket
  readonly #upstream: ThinSocket
  readonly #signal: CutSignal | undefined
  readonly #listener: RelayListener
  #id = -1
  #counts: ByteCounts | undefined
  readonly #onAbort = (): void => this.reset(this.#signal?.reason === NO_TIME)

  constructor(
    downstream: ThinSocket,
    upstream: ThinSocket,
    listener: RelayListener,
    signal: CutSignal | undefined,
  ) {
    super()
    this.#downstream = downstream
    this.#upstream = upstream
    this.#signal = signal
    this.#listener = listener
  }

  start(): void {
    const { engine } = this.#upstream
    if (this.#signal?.aborted === true) return this.#fail(cutReason(this.#signal))
    if (this.#downstream.destroyed) return this.#fail('clientReset')
    if (this.#upstream.destroyed) return this.#fail('serverReset')
    const { fd } = this.#downstream.own(this)
    const { id } = this.#upstream.own(this)
    if (engine.join(id, fd, this) < 0) {
      engine.closeFd(fd, true)
      engine.close(id, true)
      return this.#finish('internal')
    }
    this.#id = id
    this.#signal?.addEventListener('abort', this.#onAbort)
  }

  counts(): ByteCounts {
    if (this.#counts !== undefined) return this.#counts
    if (this.#id < 0) return NO_BYTES
    const { engine } = this.#upstream
    return {
      bytesToUpstream: engine.bytes(this.#id, 'downstream'),
      bytesToDownstream: engine.bytes(this.#id, 'upstream'),
    }
  }

  /** Cuts both. */
  reset(isNow: boolean): void {
    const counts = this.counts()
    if (this.#id < 0 || !this.#upstream.engine.cut(this.#id, isNow)) return
    this.#counts = counts
    this.#finish(this.#signal?.aborted === true ? cutReason(this.#signal) : 'internal')
  }

  override over(end: number): void {
    const how = PUMP_ENDS[end]
    if (how === undefined) return this.#finish('internal')
    if (how !== 'cut') return this.#finish(how)
    this.#finish(this.#signal?.aborted === true ? cutReason(this.#signal) : 'internal')
  }

  /** Before they were joined. */
  #fail(end: EndReason): void {
    this.#downstream.close(true)
    this.#upstream.close(true)
    this.#finish(end)
  }

  #finish(end: EndReason): void {
    const counts = (this.#counts ??= this.counts())
    this.#id = -1
    this.#signal?.removeEventListener('abort', this.#onAbort)
    this.#downstream.wasClosed()
    this.#upstream.wasClosed()
    this.#listener.ended({ ...counts, end })
  }
}

/** Nobody waits until a peer that does not read has read: it would hold what its place was taken for. As cutSocket(). */
const NO_TIME: EndReason = 'tooManyConnections'
