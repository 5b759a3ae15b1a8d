// SPDX-License-Identifier: Apache-2.0
// Ends streams whose apps asked to hear of a peer's silence sooner than the connection's own PING would find it. The connection is
// everybody's, so only those streams end; the others wait as long as ever. Pure but for its timer: tests call look() with a clock of
// their own. Costs nothing while no stream asks.

/** How long an app lets its peer be silent, in milliseconds; Infinity: that way it asks nothing. */
export interface AskedSilence {
  /** Silence after which the peer is to be asked whether it is there, where the app has keepalive. */
  readonly probeMs: number
  /** Silence that ends the stream, whether anything was sent or not: keepalive. */
  readonly idleMs: number
  /** Silence that ends the stream while what was written to it is unanswered: TCP_USER_TIMEOUT. */
  readonly unansweredMs: number
}

/** A stream that is watched; an H2Stream is one. */
export interface WatchedStream {
  /** Grows with whatever is written. */
  readonly written: number
  /** Ends it on both sides; its user hears this code. */
  cut(code: number): void
}

/** The kernel's view of what was sent: TCP_INFO of the connection's socket. */
export interface WayToPeer {
  /** Bytes that the peer's kernel has acknowledged so far. */
  readonly acknowledgedBytes: number
  /** Segments that are under way. None while the peer's window is closed, as then it answers probes alone. */
  readonly unacknowledged: number
  /**
   * When anything came, in milliseconds before now. That alone does not prove that the peer hears us: where only the way to it is
   * broken, it sends again and again what we acknowledge in vain.
   */
  readonly heardAgoMs: number
}

/** What the watch needs of the connection. */
export interface SilentPeer {
  /** How often its socket was read: grows whenever something comes. */
  readonly reads: number
  ping(): void
  /** What the kernel knows of the way to the peer, whose kernel may acknowledge what its agent has yet to read; undefined: nothing. */
  way(): WayToPeer | undefined
  /** Streams were cut: nothing new should be begun here. */
  doubt(): void
}

/** Between two looks: the precision of what was asked. */
export const LOOK_MS = 500
/**
 * Whoever is late must not take its own lateness for the peer's: a look that is so much after the one before ends nothing that the one
 * before did not doubt already, so that what came meanwhile is read first. The time counts in full, lest a busy thread let apps wait
 * for a multiple of what they asked.
 */
const LATE_MS = 2 * LOOK_MS
/** Whatever apps ask: PINGs are no nearer to one another, and nobody is given up who was not asked for so long. */
const PING_GAP_MS = 1_000
/** And no shorter silence is honoured: room for two PINGs. */
const LEAST_MS = 2 * PING_GAP_MS

interface Watched {
  readonly asked: AskedSilence
  readonly code: number
  /** Written before the look before the one at which the peer was last heard: that is answered, as far as looks can tell. */
  answered: number
  seen: number
  /** Silence since something was written that is not answered. */
  waitedMs: number
}

export class SilenceWatch {
  readonly #peer: SilentPeer
  readonly #watched = new Map<WatchedStream, Watched>()
  #timer: NodeJS.Timeout | undefined
  #lookedMs = 0
  #reads = 0
  #silentMs = 0
  /** How long the last PING is ago; the gap, so that one may be sent at once. */
  #pingedAgoMs = PING_GAP_MS
  /** Whether it was sent since the peer was last heard. */
  #isPinged = false
  /** What the peer had acknowledged before it. */
  #acknowledgedBytes = 0
  /** Whether the last look found somebody's time over. */
  #isDoubted = false

  constructor(peer: SilentPeer) {
    this.#peer = peer
  }

  get size(): number {
    return this.#watched.size
  }

  /** Ends the stream with `code` after the silence that is asked now; undefined: nothing is, any more. */
  ask(
    stream: WatchedStream,
    asked: AskedSilence | undefined,
    code: number,
    nowMs = performance.now(),
  ): void {
    if (asked === undefined) return this.forget(stream)
    if (this.#watched.size === 0) {
      this.#lookedMs = nowMs
      this.#reads = this.#peer.reads
      this.#silentMs = 0
      this.#isPinged = false
      this.#isDoubted = false
      this.#timer = setInterval(() => this.look(performance.now()), LOOK_MS).unref()
    }
    const before = this.#watched.get(stream)
    this.#watched.set(stream, {
      asked: {
        probeMs: Math.max(PING_GAP_MS, asked.probeMs),
        idleMs: Math.max(LEAST_MS, asked.idleMs),
        unansweredMs: Math.max(LEAST_MS, asked.unansweredMs),
      },
      code,
      // What was written before it asked may be unanswered too: many apps set it when they have connected.
      answered: before?.answered ?? 0,
      seen: before?.seen ?? stream.written,
      waitedMs: before?.waitedMs ?? 0,
    })
  }

  /** The stream is over, or asks nothing any more. */
  forget(stream: WatchedStream): void {
    if (this.#watched.delete(stream) && this.#watched.size === 0) clearInterval(this.#timer)
  }

  /** Cuts whose peer was silent for too long, and asks it where that may come to be. */
  look(nowMs: number): void {
    const stepMs = nowMs - this.#lookedMs
    this.#lookedMs = nowMs
    this.#pingedAgoMs += stepMs
    const { reads } = this.#peer
    if (reads !== this.#reads) {
      this.#reads = reads
      return this.#heard()
    }
    this.#silentMs += stepMs
    for (const [stream, watched] of this.#watched)
      if (stream.written !== watched.answered) watched.waitedMs += stepMs
    const over = [...this.#watched].filter(([, watched]) => this.#isOver(watched))
    if (over.length === 0) this.#isDoubted = false
    if (over.length > 0 && this.#isPinged && this.#pingedAgoMs >= PING_GAP_MS) {
      const way = this.#peer.way()
      if (way !== undefined && this.#isAnswered(way)) this.#isThereSince(way.heardAgoMs)
      else if (stepMs > LATE_MS && !this.#isDoubted) this.#isDoubted = true
      else {
        for (const [stream, { code }] of over) stream.cut(code)
        this.#peer.doubt()
        return
      }
    }
    if (!this.#isPinged && this.#pingedAgoMs >= PING_GAP_MS && this.#isToBeAsked()) {
      this.#isPinged = true
      this.#pingedAgoMs = 0
      this.#acknowledgedBytes = this.#peer.way()?.acknowledgedBytes ?? 0
      this.#peer.ping()
    }
  }

  #heard(): void {
    this.#silentMs = 0
    this.#isPinged = false
    this.#isDoubted = false
    for (const [stream, watched] of this.#watched) {
      watched.waitedMs = 0
      watched.answered = watched.seen
      watched.seen = stream.written
    }
  }

  /** Its kernel acknowledges, though its agent says nothing: on a slow way, what we ask stands behind much that we sent. */
  #isThereSince(agoMs: number): void {
    this.#silentMs = Math.min(this.#silentMs, agoMs)
    this.#isPinged = false
    this.#isDoubted = false
    for (const watched of this.#watched.values())
      watched.waitedMs = Math.min(watched.waitedMs, agoMs)
  }

  #isAnswered({ acknowledgedBytes, unacknowledged, heardAgoMs }: WayToPeer): boolean {
    return (
      acknowledgedBytes > this.#acknowledgedBytes ||
      (unacknowledged === 0 && heardAgoMs < this.#silentMs)
    )
  }

  #isOver({ asked, waitedMs }: Watched): boolean {
    return this.#silentMs >= asked.idleMs || waitedMs >= asked.unansweredMs
  }

  /** Early enough that an answer can come before it is too late. */
  #isToBeAsked(): boolean {
    for (const { asked, waitedMs } of this.#watched.values())
      if (
        this.#silentMs >= Math.min(asked.probeMs, asked.idleMs - PING_GAP_MS) ||
        waitedMs >= asked.unansweredMs / 2
      )
        return true
    return false
  }
}
