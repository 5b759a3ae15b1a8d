// SPDX-License-Identifier: Apache-2.0
// Sends BYTES to a digest port over CONNECTIONS at once, each block different from all others, and prints whether the
// far side counted and summed the same. With a sink port it prints "stalled BYTES" once nothing moves any more, then
// goes on as soon as the far side reads. Usage: transfer.ts HOST PORT BYTES [CONNECTIONS]

import { connect, type Socket } from 'node:net'
import { once } from 'node:events'
import { crc32 } from 'node:zlib'

const [host = '', port = '', bytes = '', connections = '1'] = process.argv.slice(2)
const BLOCK_BYTES = 256 * 1024
/** Nothing written for this long means that the far side does not read. Milliseconds. */
const STALLED_AFTER_MS = 1000

let accepted = 0
let movedAt = Date.now()
let hasStalled = false

const watch = setInterval(() => {
  if (hasStalled || Date.now() - movedAt < STALLED_AFTER_MS) return
  hasStalled = true
  console.log(`stalled ${accepted}`)
}, 100)

/** Node may still read a block after write() returned: a few buffers take turns. */
class Blocks {
  readonly #ring = Array.from({ length: 4 }, () => Buffer.alloc(BLOCK_BYTES))
  #count = 0

  constructor(seed: number) {
    let state = seed
    for (const block of this.#ring)
      for (let at = 0; at < BLOCK_BYTES; at += 4) {
        // A linear congruential generator is random enough to show any byte out of place.
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0
        block.writeUInt32LE(state, at)
      }
  }

  next(length: number): Buffer {
    const block = this.#ring[this.#count % this.#ring.length] ?? Buffer.alloc(BLOCK_BYTES)
    block.writeUInt32LE(this.#count, 0)
    this.#count += 1
    return block.subarray(0, length)
  }
}

async function send(index: number): Promise<boolean> {
  const socket: Socket = connect({ host, port: Number(port), allowHalfOpen: true })
  await once(socket, 'connect')
  const blocks = new Blocks(index + 1)
  let checksum = 0
  let left = Number(bytes)
  while (left > 0) {
    const block = blocks.next(Math.min(left, BLOCK_BYTES))
    checksum = crc32(block, checksum)
    left -= block.length
    await new Promise<void>((resolve, reject) => {
      socket.write(block, (error) => {
        if (error instanceof Error) reject(error)
        else resolve()
      })
    })
    accepted += block.length
    movedAt = Date.now()
  }
  socket.end()
  let answer = ''
  for await (const chunk of socket.setEncoding('utf8')) answer += String(chunk)
  const told = JSON.parse(answer) as { readonly bytes: number; readonly checksum: number }
  return told.bytes === Number(bytes) && told.checksum === checksum
}

const startedAt = performance.now()
const results = await Promise.all(Array.from({ length: Number(connections) }, (_, i) => send(i)))
clearInterval(watch)
console.log(
  JSON.stringify({
    isIntact: results.every(Boolean),
    bytes: accepted,
    seconds: (performance.now() - startedAt) / 1000,
  }),
)
