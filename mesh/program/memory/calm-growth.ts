// SPDX-License-Identifier: Apache-2.0
// When a heap that has grown may be looked through for what nobody uses any more: in a calm moment, when there is much to be found, and
// not again and again. Pure.

/** What is seen of a thread's heap. */
export interface Look {
  /** Milliseconds of a clock that only goes forward. */
  readonly now: number
  /** Whether there was much to do since the last look. */
  readonly isBusy: boolean
  readonly bytes: number
  /** Of its connections. */
  readonly descriptors: number
}

export interface CalmGrowthOptions {
  /** Growth that is let be: less is not worth a pause. Bytes. */
  readonly slackBytes: number
  /** Of a large heap, whose pause is long, this part of it. */
  readonly slackPart: number
  /** Whoever had so many descriptors, and has lost half of them, has been left by a crowd, whose objects are dead now. */
  readonly crowd: number
  /** How long there must have been little to do. Milliseconds. */
  readonly calmMs: number
  /** The time between two collections: of all time, this part at most is spent in them, but it is no more than `longestRestMs`. */
  readonly pausePart: number
  readonly restMs: number
  readonly longestRestMs: number
}

/** What a heap had left after the last collection, and how calm it has been since. */
export class CalmGrowth {
  readonly #options: CalmGrowthOptions
  /** Bytes; none before the first collection. */
  #left: number | undefined
  /** The most descriptors since then. */
  #peak = 0
  #calmSince: number | undefined
  #restUntil = 0

  constructor(options: CalmGrowthOptions) {
    this.#options = options
  }

  /** Whether to collect. The first calm moment always is one: much of what starting up needed is of no more use. */
  look(look: Look): boolean {
    const { now, isBusy } = look
    if (isBusy) this.#calmSince = undefined
    else this.#calmSince ??= now
    const isCalm = this.#calmSince !== undefined && now - this.#calmSince >= this.#options.calmMs
    return this.#hasGrown(look) && isCalm && now >= this.#restUntil
  }

  /** It was done, and took so long. */
  collected({ now, bytes, descriptors }: Omit<Look, 'isBusy'>, pauseMs: number): void {
    const { pausePart, restMs, longestRestMs } = this.#options
    this.#left = bytes
    this.#peak = descriptors
    this.#restUntil = now + Math.min(Math.max(restMs, pauseMs / pausePart), longestRestMs)
  }

  #hasGrown({ bytes, descriptors }: Look): boolean {
    const { slackBytes, slackPart, crowd } = this.#options
    this.#peak = Math.max(this.#peak, descriptors)
    if (this.#left === undefined) return true
    // What V8 has given back by itself.
    this.#left = Math.min(this.#left, bytes)
    if (bytes > this.#left + Math.max(slackBytes, this.#left * slackPart)) return true
    return this.#peak >= crowd && descriptors <= this.#peak / 2
  }
}
