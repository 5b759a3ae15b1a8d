// SPDX-License-Identifier: Apache-2.0
// A roster behaves as a Set in the order of insertion, and keeps nothing of whoever has left.

import { spawnSync } from 'node:child_process'
import fc from 'fast-check'
import t from 'tap'
import { Roster, type RosterMember } from '../../mesh/async/roster.ts'

interface Guest extends RosterMember {
  readonly name: number
}

void t.test('it does what a Set does, whoever comes and goes', (t) => {
  const step = fc.record({ guest: fc.nat({ max: 7 }), enters: fc.boolean() })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const guests: Guest[] = Array.from({ length: 8 }, (_, name) => ({ name }))
      const roster = new Roster<Guest>()
      const model = new Set<Guest>()
      for (const { guest: index, enters } of steps) {
        const guest = guests[index]
        if (guest === undefined) throw new Error('no such guest')
        if (enters) {
          roster.add(guest)
          model.add(guest)
        } else if (roster.delete(guest) !== model.delete(guest)) return false
        const isSame = [...roster].every((each, at) => each === [...model][at])
        if (!isSame || roster.size !== model.size) return false
        if (roster.first !== [...model][0] || roster.has(guest) !== model.has(guest)) return false
      }
      return true
    }),
  )
  t.end()
})

void t.test('a member of one roster does not enter another', (t) => {
  const guest: Guest = { name: 1 }
  const [one, other] = [new Roster<Guest>(), new Roster<Guest>()]
  one.add(guest)
  t.throws(() => other.add(guest), /cannot enter another/)
  t.notOk(other.delete(guest))
  t.ok(one.delete(guest))
  other.add(guest)
  t.same([...other], [guest])
  t.end()
})

void t.test('members may leave while all are gone through', (t) => {
  const roster = new Roster<Guest>()
  const guests: Guest[] = [{ name: 1 }, { name: 2 }, { name: 3 }]
  for (const guest of guests) roster.add(guest)
  const seen: number[] = []
  for (const { name } of roster) {
    seen.push(name)
    for (const guest of guests) roster.delete(guest)
  }
  t.same(seen, [1, 2, 3])
  t.equal(roster.size, 0)
  t.end()
})

void t.test('whoever has left is collected with the young, though the roster is old', (t) => {
  // In a process of its own, of which collections of the young can be asked for. A Set leaves most of it.
  const program = `
    import { Roster } from ${JSON.stringify(new URL('../../mesh/async/roster.ts', import.meta.url).href)}
    const roster = new Roster()
    for (let stays = 0; stays < 8; stays += 1) roster.add({ stays })
    gc(); gc()
    const present = []
    const before = process.memoryUsage().heapUsed
    for (let passes = 0; passes < 10_000; passes += 1) {
      const guest = { luggage: new Array(125).fill(passes) }
      roster.add(guest)
      if (passes % 100 === 0) gc({ type: 'minor' })
      present.push(guest)
      if (present.length > 16) roster.delete(present.shift())
    }
    gc({ type: 'minor' })
    console.log(process.memoryUsage().heapUsed - before)
  `
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ['--expose-gc', '--input-type=module', '-e', program],
    { encoding: 'utf8', timeout: 30_000 },
  )
  const left = Number(stdout)
  t.ok(left < 1_000_000, `${left} bytes are left of 10 MB that came and went ${stderr}`)
  t.end()
})
