// SPDX-License-Identifier: Apache-2.0
// Payload that lies together goes on together, in order, and none of it is lost for the window when its stream is gone.

import t from 'tap'
import { GatheredData } from '../../mesh/http2/gathered-data.ts'
import type { H2Stream } from '../../mesh/http2/stream.ts'
import type { ReceiveWindow } from '../../mesh/http2/receive-window.ts'

/** Streams that write down what they are handed, and a window that counts what was given back for them. */
function receivers(isKept = false) {
  const handed: string[] = []
  let credited = 0
  let kept = 0
  const stream = (name: string) => {
    const state = {
      isClosed: false,
      receiveData: (chunk: Buffer) => {
        handed.push(`${name}:${chunk.toString('latin1')}`)
        return isKept
      },
    }
    return { state, stream: state as unknown as H2Stream }
  }
  const window = { credit: (bytes: number) => (credited += bytes) } as unknown as ReceiveWindow
  const gathered = new GatheredData(window, () => (kept += 1))
  return { gathered, handed, stream, credited: () => credited, kept: () => kept }
}

await t.test('pieces that lie one behind the other are handed on as one', (t) => {
  const { gathered, handed, stream } = receivers()
  const memory = Buffer.from('0123456789')
  const { stream: one } = stream('one')
  gathered.add(one, memory.subarray(0, 3))
  gathered.add(one, memory.subarray(3, 7))
  gathered.add(one, memory.subarray(7))
  t.same(handed, [], 'until they are delivered')
  gathered.deliver()
  t.same(handed, ['one:0123456789'])
  gathered.deliver()
  t.equal(handed.length, 1, 'once')
  t.end()
})

await t.test('what does not continue it goes on after it', (t) => {
  const { gathered, handed, stream } = receivers()
  const memory = Buffer.from('0123456789')
  const { stream: one } = stream('one')
  const { stream: two } = stream('two')
  gathered.add(one, memory.subarray(0, 3))
  gathered.add(one, memory.subarray(4, 6)) // a frame header lies between
  gathered.add(two, memory.subarray(6, 7)) // another stream
  gathered.add(two, Buffer.from('x')) // other memory
  gathered.deliver()
  t.same(handed, ['one:012', 'one:45', 'two:6', 'two:x'])
  t.end()
})

await t.test('payload of a stream that ended meanwhile is given back to the window', (t) => {
  const { gathered, handed, stream, credited } = receivers()
  const { state, stream: one } = stream('one')
  gathered.add(one, Buffer.from('0123'))
  state.isClosed = true
  gathered.deliver()
  t.same(handed, [])
  t.equal(credited(), 4)
  t.end()
})

await t.test('whoever owns the memory hears that some of it is kept', (t) => {
  const { gathered, stream, kept } = receivers(true)
  const { stream: one } = stream('one')
  gathered.add(one, Buffer.from('0123'))
  gathered.deliver()
  t.equal(kept(), 1)
  t.end()
})
