// SPDX-License-Identifier: Apache-2.0
// Which ports the agent calls an app from in a client's name.

import t from 'tap'
import { FIRST_PORT, SourcePorts } from '../../agent/proxy/source-ports.ts'

/** Ports given to one client. */
function ports(clientPort: number | undefined, count: number, random?: () => number): number[] {
  const source = new SourcePorts(random)
  return Array.from({ length: count }, () => source.next(clientPort))
}

await t.test('a client gets ports of the parity that it does not use itself', (t) => {
  t.ok(ports(40_000, 1000).every((port) => port % 2 === 1))
  t.ok(ports(1025, 1000).every((port) => port % 2 === 0))
  t.ok(
    ports(undefined, 1000).every((port) => port % 2 === 1),
    'Linux clients use even ones',
  )
  t.end()
})

await t.test('they are above what servers listen on, and come round', (t) => {
  for (const clientPort of [1, 2]) {
    const all = new Set(ports(clientPort, 16_384, () => 0))
    t.equal(all.size, 16_384, 'each once')
    t.ok([...all].every((port) => port >= FIRST_PORT && port <= 65_535))
  }
  t.end()
})

await t.test('the next is not told by the last', (t) => {
  const all = ports(40_000, 1000)
  const steps = new Set(all.map((port, index) => port - (all[index - 1] ?? 0)))
  t.ok(steps.size > 5)
  t.end()
})
