// SPDX-License-Identifier: Apache-2.0
// The bodies of requests that are still to come on one connection of HTTP/2. One that has stopped holds a stream, and what it has at the
// app: it is ended. One deadline for all of them, and none while there are none. Hot: two calls for each request that has a body.

import { Roster, type RosterMember } from '../../mesh/async/roster.ts'
import { Deadline, type DeadlineWheel } from './deadline-wheel.ts'

/**
 * How often it is looked whether something of a body came. As long as Envoy waits; whoever is looked at just after its last byte has nearly
 * twice that.
 */
export const BODY_MS = 300_000

/** The body of one request. */
export interface OpenBody extends RosterMember {
  /** Whether it may go on: something came since it was last asked, or it is not the client that has stopped. */
  isMoving(): boolean
  /** Ends the request. */
  stop(): void
}

export class OpenBodies {
  readonly #deadlines: DeadlineWheel
  readonly #mayCome: () => boolean
  readonly #bodies = new Roster<OpenBody>()
  readonly #look = new Deadline(() => this.#lookAtAll())

  /** `mayCome`: the connection lets its client send something. */
  constructor(deadlines: DeadlineWheel, mayCome: () => boolean) {
    this.#deadlines = deadlines
    this.#mayCome = mayCome
  }

  /** A request is read whose body follows. */
  opened(body: OpenBody): void {
    this.#bodies.add(body)
    if (this.#look.slot < 0) this.#deadlines.set(this.#look, BODY_MS)
  }

  /** It has come, or nobody waits for it any more; as often as one likes. */
  closed(body: OpenBody): void {
    if (this.#bodies.delete(body) && this.#bodies.size === 0) this.#deadlines.clear(this.#look)
  }

  #lookAtAll(): void {
    const mayCome = this.#mayCome()
    for (const body of this.#bodies) if (!body.isMoving() && mayCome) body.stop()
    if (this.#bodies.size > 0) this.#deadlines.set(this.#look, BODY_MS)
  }
}
