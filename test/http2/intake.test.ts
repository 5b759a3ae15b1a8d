// SPDX-License-Identifier: Apache-2.0
// What a connection may cost by how its bytes are cut into reads: a peer can put each of them in a TLS record of its own.

import { Socket } from 'node:net'
import { setImmediate as eventLoopTurn } from 'node:timers/promises'
import t from 'tap'
import { Intake } from '../../mesh/http2/intake.ts'
import { TLS_READ_BYTES } from '../../mesh/relay/read-in-place.ts'

/** What came of some reads. */
interface Told {
  readonly bytes: number[]
  calls: number
  deliveries: number
}

/** An intake that is fed by hand; what it counts as work is up to `onParse`. */
function intakeOf(onParse: (intake: Intake, chunk: Buffer) => number) {
  const socket = new Socket()
  const told: Told = { bytes: [], calls: 0, deliveries: 0 }
  const intake: Intake = new Intake(socket, {
    parse: (chunk) => {
      told.calls += 1
      const used = onParse(intake, chunk)
      told.bytes.push(...chunk.subarray(0, used))
      return used
    },
    deliver: () => {
      told.deliveries += 1
    },
    stop: () => undefined,
    account: () => undefined,
  })
  intake.start()
  return { intake, told, read: (chunk: Buffer) => socket.emit('data', chunk) }
}

await t.test('single bytes are taken together once they have used up the turn', async (t) => {
  const { intake, told, read } = intakeOf((_intake, chunk) => chunk.length)
  const count = 20_000
  for (let at = 0; at < count; at += 1) read(Buffer.from([at % 251]))
  t.ok(told.calls <= 256, `${told.calls} in the first turn`)
  t.ok(intake.heldBytes >= count - 256)
  while (told.bytes.length < count) await eventLoopTurn()
  t.ok(told.calls < 300, `${told.calls} in all`)
  t.ok(told.bytes.every((byte, at) => byte === at % 251))
  t.ok(intake.heldBytes <= TLS_READ_BYTES, 'no more than a buffer to read into')
})

await t.test('what is left of a turn comes before what was read meanwhile', async (t) => {
  // Two bytes of each chunk a turn.
  const { intake, told, read } = intakeOf((taker, chunk) => {
    if (chunk.length > 0) taker.work(256)
    return Math.min(2, chunk.length)
  })
  for (const start of [0, 5, 10]) read(Buffer.from([0, 1, 2, 3, 4].map((byte) => start + byte)))
  read(Buffer.alloc(20_000, 15))
  while (told.bytes.length < 17) await eventLoopTurn()
  t.same(
    told.bytes.slice(0, 17),
    Array.from({ length: 17 }, (_, at) => Math.min(at, 15)),
  )
  intake.close()
  t.equal(intake.heldBytes, 0)
})

await t.test(
  'what a turn brings of bulk is handed on together, and nothing of it later than that',
  async (t) => {
    const { intake, told, read } = intakeOf((_intake, chunk) => chunk.length)
    const record = Buffer.alloc(TLS_READ_BYTES)
    for (let at = 0; at < 9; at += 1) read(record)
    t.equal(told.deliveries, 9, 'each by itself until it is known to be bulk')
    for (let at = 0; at < 16; at += 1) read(record)
    t.equal(told.deliveries, 11, `${told.deliveries} with 16 records more`)
    const before = told.deliveries
    read(record.subarray(1))
    t.equal(told.deliveries, before + 1, 'the last of it, which is not full, at once')
    read(record)
    t.equal(told.deliveries, before + 1, 'more is likely to come')
    await eventLoopTurn()
    t.equal(told.deliveries, before + 2, 'none came')
    t.ok(intake.heldBytes <= 8 * TLS_READ_BYTES)
    intake.close()
  },
)
