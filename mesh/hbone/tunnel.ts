// SPDX-License-Identifier: Apache-2.0
// A tunnel over one HTTP/2 stream.

import { type Http2Stream, constants } from 'node:http2'
import { Duplex } from 'node:stream'
import type { HboneTunnel } from './types.ts'

/** Wraps an HTTP/2 stream whose CONNECT was answered with 200. */
export function tunnelOf(stream: Http2Stream): HboneTunnel {
  return new StreamTunnel(stream)
}

class StreamTunnel extends Duplex implements HboneTunnel {
  readonly #stream: Http2Stream
  #wasReset = false

  constructor(stream: Http2Stream) {
    super({ allowHalfOpen: true, emitClose: true })
    this.#stream = stream
    stream.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) stream.pause()
    })
    stream.once('end', () => {
      if (stream.rstCode === 0 && !stream.aborted) this.push(null)
    })
    stream.on('error', () => undefined)
    stream.once('close', () => {
      if (stream.rstCode !== 0 || stream.aborted || (!this.readableEnded && !this.readableFlowing))
        this.#wasReset ||= stream.rstCode !== 0 || stream.aborted
      if (this.#wasReset) this.destroy()
    })
  }

  get wasReset(): boolean {
    return this.#wasReset
  }

  reset(): void {
    this.destroy(undefined)
  }

  override _read(): void {
    this.#stream.resume()
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#stream.write(chunk, done)
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#stream.end(() => done())
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (!this.#stream.closed) {
      this.#wasReset = !(this.readableEnded && this.writableFinished)
      this.#stream.close(this.#wasReset ? constants.NGHTTP2_CANCEL : constants.NGHTTP2_NO_ERROR)
    }
    done(error)
  }
}
