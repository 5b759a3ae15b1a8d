// SPDX-License-Identifier: Apache-2.0
// How one peer behaves: what each frame that carries nothing costs it, and which of them are no nuisance because they
// answer what we did. Whoever has nothing left to pay with is cut off by the error thrown here.
//
// What a peer can send, and what bounds it (docs/security.md has the same by attack):
//   DATA on an open stream      flow control; however small, it is work for the stream's own receiver: turn budget
//   DATA, empty                 control
//   DATA on a stream we cut     what was under way when we cut it, counting 1 KiB at least; then the connection ends
//   DATA on a stream it closed  the connection ends
//   HEADERS, a request          streams at once; one that leads to nothing (refused, malformed, over the limit, reset before
//                               the answer) costs waste, by H2Stream.wasted() where the server above refuses
//   HEADERS, large              waste by size; decoding is linear in the block and the list's limit (hpack.ts)
//   HEADERS after the answer    a stream error: waste. On a stream we cut: an answer, else waste
//   CONTINUATION                16 frames and the list's limit in bytes
//   PRIORITY, unknown           control
//   RST_STREAM                  within 100 ms and before the answer waste; on a closed stream an answer
//   SETTINGS, GOAWAY            control; SETTINGS also by its entries. Acknowledgements nobody asked for: control
//   WINDOW_UPDATE, PING         an answer: earned by the DATA we sent, else control
//   PUSH_PROMISE, wrong sizes   the connection ends
//   nothing at all, half a frame or header block   PING, and the account of held memory (held-memory.ts)
// Whatever is within these bounds, one connection gets so much of a turn of the event loop (turn-budget.ts).

import { type H2Account, type H2Accounts, connectionAccounts } from './budget.ts'
import { H2ConnectionError, H2_CODE } from './protocol.ts'

/**
 * A peer that waited so long for an answer gave up for want of patience, which a stuck app is enough to cause in a thousand honest
 * clients at once; who waits is bounded by the streams it may have at once.
 */
const PATIENCE_MS = 100
/** Frames that may answer nothing of ours: what a peer says of its windows as the connection begins. */
const FIRST_ANSWERS = 16
/** What a stream may bring beside its DATA: window updates as it opens, a reset or an answer that crossed with ours. */
const ANSWERS_PER_STREAM = 4
/** A peer may tell of the stream's and of the connection's window for each DATA frame. */
const ANSWERS_PER_DATA_FRAME = 2
/** And of large frames piece by piece, as it consumes them. */
const ANSWER_BYTES = 1024
/** Answers that can be under way at once, with windows of some 16 MiB. */
const MOST_ANSWERS = 32 * 1024
/** What a DATA frame on a stream we cut counts at least: more of them were hardly under way. */
const LEAST_LATE_BYTES = 1024
/** Beyond the open window: where that is small, a few frames of less than LEAST_LATE_BYTES may be under way. */
const LATE_SLACK_BYTES = 64 * 1024
/** Header bytes, wire or list, that cost nothing extra: a CONNECT with baggage has less than 2 KiB. */
const FREE_HEADER_BYTES = 8 * 1024
/** Beyond them a token of waste pays for so many. */
const HEADER_BYTES_PER_TOKEN = 8 * 1024

export class Conduct {
  readonly #control: H2Account
  readonly #waste: H2Account
  readonly #mostLateBytes: number
  #answers = FIRST_ANSWERS
  #lateBytes = 0
  /** Acknowledgements that we wait for; ours is the first SETTINGS. */
  #settingsUnderWay = 1
  #pingsUnderWay = 0

  constructor(accounts: Partial<H2Accounts> | undefined, connectionWindowBytes: number) {
    const { control, waste } = connectionAccounts(accounts)
    this.#control = control
    this.#waste = waste
    this.#mostLateBytes = connectionWindowBytes + LATE_SLACK_BYTES
  }

  /** A frame that carries nothing. */
  control(what: string, tokens = 1): void {
    spend(this.#control, tokens, what)
  }

  /** Work that led to nothing. */
  waste(what: string, tokens = 1): void {
    spend(this.#waste, tokens, what)
  }

  /** A request was reset by its sender, so long after it came and before it was answered. */
  gaveUp(waitedMs: number): void {
    if (waitedMs < PATIENCE_MS) this.waste('rapid reset')
  }

  /** A header block was read: of so many bytes, as it came or as a list, whichever is more. */
  headers(bytes: number): void {
    if (bytes > FREE_HEADER_BYTES)
      this.waste('large headers', Math.ceil((bytes - FREE_HEADER_BYTES) / HEADER_BYTES_PER_TOKEN))
  }

  /** A frame that only makes sense after something we did. */
  answer(what: string): void {
    if (this.#answers > 0) this.#answers -= 1
    else this.control(what)
  }

  /** DATA went out. A peer that opens its window by single bytes earns nothing by the frames it gets: `emptiedWindow`. Hot. */
  sentData(bytes: number, emptiedWindow: boolean): void {
    if (this.#answers >= MOST_ANSWERS) return
    const earned = Math.floor(bytes / ANSWER_BYTES) + (emptiedWindow ? 0 : ANSWERS_PER_DATA_FRAME)
    this.#answers = Math.min(MOST_ANSWERS, this.#answers + earned)
  }

  /** A stream was opened, by whomever. */
  openedStream(): void {
    this.#answers = Math.min(MOST_ANSWERS, this.#answers + ANSWERS_PER_STREAM)
  }

  /** A stream was cut by us while its peer could still send so much. */
  cutStream(openWindowBytes: number): void {
    const more = Math.max(0, openWindowBytes) + LATE_SLACK_BYTES
    this.#lateBytes = Math.min(this.#mostLateBytes, this.#lateBytes + more)
    // Before it hears of it, the peer may cut it itself.
    this.#answers = Math.min(MOST_ANSWERS, this.#answers + 1)
  }

  /** Whether frames of streams we cut may still be under way. */
  get expectsLateFrames(): boolean {
    return this.#lateBytes > 0
  }

  /** DATA on a stream that is closed. */
  lateData(bytes: number): void {
    this.#lateBytes -= Math.max(bytes, LEAST_LATE_BYTES)
    if (this.#lateBytes >= 0) return
    // RFC 9113 5.1: after its own END_STREAM or RST_STREAM a peer sends none, and after ours only what was under way.
    throw new H2ConnectionError(H2_CODE.streamClosed, 'DATA on a closed stream')
  }

  sentPing(): void {
    this.#pingsUnderWay += 1
  }

  pingAck(): void {
    if (this.#pingsUnderWay > 0) this.#pingsUnderWay -= 1
    else this.control('PING acknowledgements')
  }

  settingsAck(): void {
    if (this.#settingsUnderWay > 0) this.#settingsUnderWay -= 1
    else this.control('SETTINGS acknowledgements')
  }
}

function spend(account: H2Account, tokens: number, what: string): void {
  if (account.take(tokens)) return
  // What was done is paid for all the same: else what is too dear would cost nothing.
  account.charge(tokens)
  throw new H2ConnectionError(H2_CODE.enhanceYourCalm, `flood of ${what}`)
}
