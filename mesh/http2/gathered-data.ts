// SPDX-License-Identifier: Apache-2.0
// Payload that lies together and belongs to one stream is handed on together: TLS gives it away record by record, and a write to
// the app's socket for each of 16 KiB was a sixth of a relay's CPU in bulk. Hot: bench/hbone-relays.ts watches it.

import type { ReceiveWindow } from './receive-window.ts'
import type { H2Stream } from './stream.ts'

export class GatheredData {
  readonly #window: ReceiveWindow
  readonly #onKept: () => void
  #stream: H2Stream | undefined
  /** The first piece; the others lie behind it in its memory. */
  #first: Buffer = NOTHING
  #bytes = 0

  /** `onKept` hears when the receiver keeps what it was handed. */
  constructor(window: ReceiveWindow, onKept: () => void) {
    this.#window = window
    this.#onKept = onKept
  }

  /** Takes a piece. What it does not continue goes on first. */
  add(stream: H2Stream, piece: Buffer): void {
    const first = this.#first
    if (
      this.#stream !== stream ||
      piece.buffer !== first.buffer ||
      piece.byteOffset !== first.byteOffset + this.#bytes
    ) {
      this.deliver()
      this.#stream = stream
      this.#first = piece
    }
    this.#bytes += piece.length
  }

  /** Hands on what there is. To be called before anything else is told of the stream, and before the memory is used again. */
  deliver(): void {
    const stream = this.#stream
    if (stream === undefined) return
    const first = this.#first
    const bytes = this.#bytes
    this.#stream = undefined
    this.#first = NOTHING
    this.#bytes = 0
    if (stream.isClosed) return this.#window.credit(bytes)
    const isWhole = first.length === bytes
    const chunk = isWhole ? first : Buffer.from(first.buffer, first.byteOffset, bytes)
    if (stream.receiveData(chunk)) this.#onKept()
  }
}

const NOTHING = Buffer.alloc(0)
