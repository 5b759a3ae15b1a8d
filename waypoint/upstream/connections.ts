// SPDX-License-Identifier: Apache-2.0
// Connections to apps, of either version of HTTP.

import type { HeldMemory } from '../../mesh/http2/held-memory.ts'
import type { DeadlineWheel } from '../exchange/deadline-wheel.ts'
import type { Attempt, CallOff, ConnectionWaiter } from '../exchange/types.ts'
import { EndpointChoice } from './endpoint-choice.ts'
import { Http1Connections } from './http1-connections.ts'
import { Http2Connections } from './http2-connections.ts'
import type { UpstreamCall, Upstreams } from './upstreams.ts'

export interface ConnectionsOptions {
  readonly upstreams: Pick<Upstreams, 'choose' | 'open'>
  readonly deadlines: DeadlineWheel
  readonly memory: HeldMemory
}

export class Connections {
  readonly #http1: Http1Connections
  readonly #http2: Http2Connections

  constructor({ upstreams, deadlines, memory }: ConnectionsOptions) {
    const choice = new EndpointChoice(upstreams)
    this.#http1 = new Http1Connections({ upstreams, choice, deadlines })
    this.#http2 = new Http2Connections({ upstreams, choice, deadlines, memory })
  }

  /** A way to an app for one try of a request. */
  connect(call: UpstreamCall, attempt: Attempt, waiter: ConnectionWaiter): CallOff {
    return attempt.version === 'http2'
      ? this.#http2.connect(call, attempt, waiter)
      : this.#http1.connect(call, attempt, waiter)
  }

  /** Closes what is idle, and what becomes so. */
  drain(): void {
    this.#http1.drain()
    this.#http2.drain()
  }
}
