// SPDX-License-Identifier: Apache-2.0
// What apps ask of their sockets after connect() (many libraries set keepalive then), carried to what the agent has beyond, legs and tunnels. The
// kernel notes it (bpf/options.h); it is fetched here, soon while a connection is young and more seldom later.

import { Socket } from 'node:net'
import { type Listed, Roster, type RosterMember } from '../../mesh/async/roster.ts'
import { socketFd } from '../../mesh/relay/last-descriptors.ts'
import type { ByteStream } from '../../mesh/relay/pump.ts'
import type { AskedOptions, DataPlaneSockets } from '../capture/types.ts'
import { askedSilence } from './asked-silence.ts'

/** As good as at once: nobody asks for a time-out of less than a few seconds. */
const LOOK_INTERVAL_MS = 1_000
/** Looks at a connection before it counts as old, of which every fifth look is enough: each costs a system call. */
const YOUNG_LOOKS = 10
const LOOKS_OF_OLD = 5

/** A connection whose app may ask yet. */
class Followed implements RosterMember {
  /** Of the app's socket. */
  readonly cookie: bigint
  readonly leg: ByteStream
  looks = 0
  listed: Listed | undefined

  constructor(cookie: bigint, leg: ByteStream) {
    this.cookie = cookie
    this.leg = leg
  }
}

export class AskedLater {
  readonly #sockets: Pick<DataPlaneSockets, 'askedSince' | 'setOptions'>
  readonly #onFailure: (thrown: unknown) => void
  readonly #followed = new Roster<Followed>()
  #timer: NodeJS.Timeout | undefined

  /** `onFailure` hears of what the kernel refuses, which is a bug: it took the same from the app. */
  constructor(
    sockets: Pick<DataPlaneSockets, 'askedSince' | 'setOptions'>,
    onFailure: (thrown: unknown) => void,
  ) {
    this.#sockets = sockets
    this.#onFailure = onFailure
  }

  /** Until `leg` closes it does what the app with this socket asks. */
  follow(cookie: bigint, leg: ByteStream): void {
    const followed = new Followed(cookie, leg)
    this.#followed.add(followed)
    if (leg instanceof Socket) leg.once('close', () => this.#forget(followed))
    else leg.onceClosed(() => this.#forget(followed))
    this.#timer ??= setInterval(() => this.look(), LOOK_INTERVAL_MS).unref()
  }

  #forget(followed: Followed): void {
    this.#followed.delete(followed)
    if (this.#followed.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** Fetches now what was asked. */
  look(): void {
    for (const followed of this.#followed) {
      followed.looks += 1
      if (followed.looks > YOUNG_LOOKS && followed.looks % LOOKS_OF_OLD !== 0) continue
      const asked = this.#sockets.askedSince(followed.cookie)
      if (asked !== undefined) this.#heed(followed.leg, asked)
    }
  }

  #heed(leg: ByteStream, asked: AskedOptions): void {
    if ('askSilence' in leg) return leg.askSilence(askedSilence(asked))
    const fd = socketFd(leg)
    if (fd === undefined) return
    try {
      this.#sockets.setOptions(fd, asked)
    } catch (thrown) {
      this.#onFailure(thrown)
    }
  }
}
