// SPDX-License-Identifier: Apache-2.0
// The app's side of a unary call of gRPC, as the benches have it.

import type { H2Stream, StreamSink } from '../../mesh/http2/stream.ts'
import { GRPC_ANSWER_BYTES } from './parties.ts'

const HEAD: readonly (readonly [string, string])[] = [
  [':status', '200'],
  ['content-type', 'application/grpc'],
  ['grpc-accept-encoding', 'identity,deflate,gzip'],
]
const MESSAGE = Buffer.alloc(GRPC_ANSWER_BYTES, 'x')
const TRAILERS: readonly (readonly [string, string])[] = [
  ['grpc-status', '0'],
  ['grpc-message', 'OK'],
]

/** Answers a call when its message is there. */
export class GrpcAnswer implements StreamSink {
  readonly #stream: H2Stream

  constructor(stream: H2Stream) {
    this.#stream = stream
  }

  onHeaders(): void {
    // Those of a request come before.
  }

  onData(chunk: Buffer): boolean {
    this.#stream.consume(chunk.length)
    return false
  }

  onEnd(): void {
    this.#stream.sendHeaders(HEAD, false)
    this.#stream.write(MESSAGE, true)
    this.#stream.end(TRAILERS)
  }

  onReset(): boolean {
    return false
  }

  onWritable(): void {
    // A message fits into every window.
  }

  onClosed(): void {
    // Nothing is kept.
  }
}
