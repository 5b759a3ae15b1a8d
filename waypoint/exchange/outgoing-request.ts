// SPDX-License-Identifier: Apache-2.0
// A request that is to be sent: its head as the app's protocol writes it, which outlives the call that the client's head is valid in, so
// that it can be sent once there is a connection, and sent again. Used again for the next request. Hot: once a request.

import type { Field } from '../../mesh/http/field-list.ts'
import { HeadWriter } from '../../mesh/http/http1/head-writer.ts'
import { KeptBytes } from '../../mesh/http/http1/kept-bytes.ts'
import type { HeaderEdits } from '../../mesh/http/header-edits.ts'
import { requestFields } from '../../mesh/http/http2/write-head.ts'
import type { RequestMessage } from '../../mesh/http/message.ts'

/** One for the thread: what it wrote is kept before the next head. */
const writer = new HeadWriter()

const NONE: readonly Field[] = []

export class OutgoingRequest {
  method = ''
  isWebSocket = false
  /** Bytes of the body; below 0: nobody knows until it ends. */
  bodyLength = 0
  /** Of HTTP/2: whether a body, or at least an end, follows. */
  hasBody = false
  /** As HTTP/1.1 sends it, */
  readonly bytes = new KeptBytes()
  /** or as HTTP/2 does. */
  fields: readonly Field[] = NONE

  /** Takes a head as it goes on, to such a target and host. */
  asHttp1(
    head: RequestMessage,
    target: string,
    authority: string,
    edits: HeaderEdits | undefined,
  ): void {
    this.#begin(head)
    writer.request(head, target, authority, edits)
    this.bytes.append(writer.bytes, 0, writer.length)
  }

  /** The same; `hasBody`: a body, or at least an end, follows. */
  asHttp2(
    head: RequestMessage,
    target: string,
    authority: string,
    edits: HeaderEdits | undefined,
    hasBody: boolean,
  ): void {
    this.#begin(head)
    this.hasBody = hasBody
    this.fields = requestFields(head, target, authority, edits)
  }

  /** Its answer has no body. */
  get isHead(): boolean {
    return this.method === 'HEAD'
  }

  /** It will not be sent any more. */
  forget(): void {
    this.bytes.rewind()
    this.fields = NONE
  }

  #begin({ method, isWebSocket, bodyLength }: RequestMessage): void {
    this.method = method
    this.isWebSocket = isWebSocket
    this.bodyLength = bodyLength
    this.bytes.rewind()
  }
}
