// SPDX-License-Identifier: Apache-2.0
// The windows and the account of one connection against properties: nothing is lost, nothing invented.

import { deepStrictEqual, ok } from 'node:assert'
import fc from 'fast-check'
import t from 'tap'
import { HeldMemory, type Holder } from '../../mesh/http2/held-memory.ts'
import { H2_CODE, LARGEST_WINDOW_BYTES } from '../../mesh/http2/protocol.ts'
import { ReceiveWindow } from '../../mesh/http2/receive-window.ts'
import { H2Stream, type StreamHost, type StreamSink } from '../../mesh/http2/stream.ts'
import { CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES } from '../../mesh/hbone/limits.ts'

const MIB = 1024 * 1024

interface Step {
  readonly do: string
  readonly at: number
  readonly size: number
  readonly kept: number
}

/** A sink that consumes on the spot all but a quarter times `kept` of each chunk. */
class LaggingSink implements StreamSink {
  kept = 0
  waiting = 0
  keepsOnReset = false
  wasShed = false
  stream: H2Stream | undefined
  onData(chunk: Buffer): boolean {
    const kept = Math.floor((chunk.length * this.kept) / 4)
    this.waiting += kept
    this.stream?.consume(chunk.length - kept)
    return kept > 0
  }
  onReset(code: number): boolean {
    this.wasShed ||= code === H2_CODE.enhanceYourCalm
    if (!this.keepsOnReset) this.waiting = 0
    const keeps = this.keepsOnReset
    this.keepsOnReset = false
    return keeps
  }
  onHeaders(): void {}
  onEnd(): void {}
  onWritable(): void {}
  onClosed(): void {}
}

/** Streams of one connection on real windows and a real account, and what must be true of them. */
class Model {
  readonly memory: HeldMemory
  readonly #window: ReceiveWindow
  readonly #limit: number
  readonly #slots: { stream: H2Stream; sink: LaggingSink }[]
  /** Those that were replaced and may still hold something. */
  readonly #all: LaggingSink[] = []
  readonly #host: StreamHost
  /** Room to send: none while the peer does not read. */
  #room = 0

  constructor(limit: number) {
    this.#limit = limit
    this.memory = new HeldMemory(limit)
    this.#window = new ReceiveWindow(this.memory, CONNECTION_WINDOW_BYTES, () => undefined)
    this.#host = {
      receiveWindow: this.#window,
      streamWindowBytes: STREAM_WINDOW_BYTES,
      spendWaste: () => undefined,
      askSilence: () => undefined,
      memory: this.memory,
      owner: 'pod',
      caller: '',
      dataRoom: () => this.#room,
      overflowRoom: () => this.#room,
      sendData: () => undefined,
      sendHeaders: () => undefined,
      sendWindowUpdate: () => undefined,
      sendReset: () => undefined,
      enqueue: () => undefined,
      forget: () => undefined,
    }
    this.#slots = [1, 3, 5, 7].map((id) => this.#open(id))
  }

  get lent(): number {
    return this.#window.lent
  }

  /** Streams that were reset for memory. */
  get sheds(): number {
    return this.#all.filter(({ wasShed }) => wasShed).length
  }

  run({ do: what, at, size, kept }: Step): void {
    const slot = this.#slots[at]
    if (slot === undefined) return
    const { stream, sink } = slot
    sink.kept = kept
    switch (what) {
      case 'receive': {
        const length = Math.min(size, this.#window.open)
        if (stream.isClosed || stream.isEndReceived || !stream.takeReceiveWindow(length)) return
        this.#window.take(length)
        stream.receiveData(Buffer.alloc(length))
        return
      }
      case 'consume': {
        const length = Math.min(size, sink.waiting)
        sink.waiting -= length
        stream.consume(length)
        return
      }
      case 'write':
        stream.write(Buffer.alloc(size), true)
        return
      case 'send':
        this.#room = size
        stream.takeTurn()
        this.#room = 0
        return
      case 'reset':
        if (!stream.isClosed) sink.waiting = 0
        stream.reset(H2_CODE.cancel)
        break
      case 'peerReset':
        stream.receiveReset(H2_CODE.cancel, false)
        break
      case 'peerResetKept':
        sink.keepsOnReset = !stream.isClosed
        stream.receiveReset(H2_CODE.noError, false)
        break
      case 'endBoth':
        stream.end()
        stream.receiveEnd()
        break
      default:
        sink.waiting = 0
        stream.drop()
        stream.reset(H2_CODE.cancel)
    }
    // A stream that is over makes room for a new one once its sink is through.
    if (stream.isClosed && sink.waiting === 0) this.#slots[at] = this.#open(stream.id)
  }

  check(): void {
    const { open, held, lent, uncredited } = this.#window
    deepStrictEqual(open + held - lent + uncredited, CONNECTION_WINDOW_BYTES)
    ok(open >= 0 && lent >= 0 && lent <= held && uncredited >= 0)
    const waiting = this.#all.reduce((sum, sink) => sum + sink.waiting, 0)
    ok(held <= waiting, 'the connection holds no more than its sinks')
    ok(this.memory.total >= waiting && this.memory.total <= this.#limit)
  }

  finish(): void {
    this.#room = CONNECTION_WINDOW_BYTES
    for (const { stream, sink } of this.#slots) {
      while (stream.takeTurn());
      stream.consume(sink.waiting)
      sink.waiting = 0
      this.check()
    }
    deepStrictEqual(this.memory.total, 0)
    deepStrictEqual(this.#window.held, 0)
    deepStrictEqual(this.#window.open + this.#window.uncredited, CONNECTION_WINDOW_BYTES)
  }

  #open(id: number): { stream: H2Stream; sink: LaggingSink } {
    const sink = new LaggingSink()
    const stream = new H2Stream(id, this.#host, sink, LARGEST_WINDOW_BYTES)
    sink.stream = stream
    this.#all.push(sink)
    return { stream, sink }
  }
}

await t.test('a connection that was refused a loan gets it when memory is there again', (t) => {
  const memory = new HeldMemory(64 * MIB)
  const others: Holder = { owner: 'a', caller: '', heldBy: {}, heldCost: 0, shed: () => undefined }
  memory.enter(others)
  memory.take(40 * MIB)
  const window = new ReceiveWindow(memory, CONNECTION_WINDOW_BYTES, () => undefined)
  const held = CONNECTION_WINDOW_BYTES
  window.take(held)
  window.hold(held)
  t.equal(window.open, 0)
  memory.giveBack(39 * MIB)
  t.equal(window.lent, (held / 4) * 3)
  t.equal(window.open + window.uncredited, (held / 4) * 3)
  t.end()
})

await t.test('a connection that got a part of its loan gets the rest when memory is there', (t) => {
  const memory = new HeldMemory(64 * MIB)
  const others: Holder = { owner: 'a', caller: '', heldBy: {}, heldCost: 0, shed: () => undefined }
  memory.enter(others)
  memory.take(32 * MIB - 1)
  const window = new ReceiveWindow(memory, CONNECTION_WINDOW_BYTES, () => undefined)
  const held = CONNECTION_WINDOW_BYTES
  window.take(held)
  window.hold(held)
  t.equal(window.open, 1)
  memory.giveBack(31 * MIB)
  t.equal(window.lent, (held / 4) * 3)
  t.end()
})

await t.test(
  'no order of receiving, reading and resetting loses or invents window or memory',
  (t) => {
    const streamOf = fc.nat({ max: 3 })
    const size = fc.oneof(fc.nat({ max: 20_000 }), fc.integer({ min: MIB, max: 3 * MIB }))
    const step: fc.Arbitrary<Step> = fc.record({
      do: fc.oneof(
        { weight: 14, arbitrary: fc.constant('receive') },
        { weight: 6, arbitrary: fc.constantFrom('consume', 'write', 'send') },
        { weight: 1, arbitrary: fc.constantFrom('reset', 'peerReset', 'peerResetKept') },
        { weight: 1, arbitrary: fc.constantFrom('endBoth', 'drop') },
      ),
      at: streamOf,
      size,
      kept: fc.nat({ max: 4 }),
    })
    const seen = { loans: 0, sheds: 0 }
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 100 }),
        fc.integer({ min: 1, max: 120 }),
        (steps, limit) => {
          const model = new Model(limit * MIB)
          for (const each of steps) {
            model.run(each)
            model.check()
            if (model.lent > 0) seen.loans += 1
          }
          seen.sheds += model.sheds
          model.finish()
        },
      ),
      { numRuns: 500 },
    )
    t.ok(seen.loans > 0, `with ${seen.loans} steps under loans`)
    t.ok(seen.sheds > 0, `and ${seen.sheds} streams cut for memory`)
    t.end()
  },
)
