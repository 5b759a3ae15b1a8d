// SPDX-License-Identifier: Apache-2.0
// What an exchange has of the way to an app, whichever protocol the app speaks: a request goes in, an answer comes out. The heads that
// are handed over say how they are framed, and it is for the client's codec to frame them anew.

import type { Fields, ResponseMessage } from '../../mesh/http/message.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import type { OutgoingRequest } from './outgoing-request.ts'
import type { ResponseFlag } from './types.ts'
import type { Endpoint } from './upstream-connection.ts'

/** Who uses it for one request. Heads are valid during the call. */
export interface UpstreamUser {
  onInterim(head: ResponseMessage): void
  onAnswer(head: ResponseMessage): void
  /** 101: from now on data are bytes, and ends those of each side. */
  onSwitch(head: ResponseMessage): void
  /** Credits them by credit() once they have gone on. */
  onAnswerData(bytes: Buffer, from: number, to: number): void
  /** The answer is complete, and the upstream not the exchange's any more; after onSwitch: the far end half-closed. */
  onAnswerEnd(trailers: Fields | undefined): void
  /**
   * It is over before the answer was; it is not the exchange's any more. `isUnprocessed`: the app has said that it did nothing of what
   * was asked.
   */
  onFailed(
    flag: ResponseFlag,
    reason: EndReason,
    message: string | undefined,
    isUnprocessed: boolean,
  ): void
  /** data() may go on. */
  onRoom(): void
}

/** For one request at a time. No call of its user's comes from within a call to it, but for cut(). */
export interface Upstream {
  readonly endpoint: Endpoint
  /** Its connection had a request before: when it ends without a byte of an answer, it may have been closing already. */
  readonly isReused: boolean
  /** Whether the app may say of a request that was sent that it did nothing of it: it is better kept until the answer comes. */
  readonly mayRefuse: boolean
  /** Whether something of the answer to the present request came. */
  readonly hasAnswerBytes: boolean
  /** Sends the head, and takes it for this request. False: wait for onRoom() before more than is under way. */
  begin(user: UpstreamUser, request: OutgoingRequest): boolean
  /** Bytes of the body. False as begin(). */
  data(bytes: Buffer, from: number, to: number): boolean
  /** The request is complete. After onSwitch: half-closes. */
  end(trailers: Fields | undefined): void
  /** So many bytes of onAnswerData have gone on. */
  credit(bytes: number): void
  /** Ends it at once; nobody hears. */
  cut(reason: EndReason): void
}
