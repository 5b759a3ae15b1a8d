// SPDX-License-Identifier: Apache-2.0
// The same odd bytes through nginx, haproxy and a waypoint: what a waypoint lets pass is what the others make of it, and what it writes is
// one thing to all. Where they refuse what a waypoint takes, or read it otherwise, the table says so.

import t from 'tap'
import { answerAll, makeWorld } from './harness.ts'
import { numbered, ODD_CASES } from './odd-requests.ts'
import { findRival, type RivalName, startRival } from './rivals.ts'

/** Closes the connection of who has taken all before. */
const LAST = 'GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n'

/** Where a rival does otherwise with what a waypoint lets pass, and why that is no matter. */
const OTHERWISE: Readonly<Record<RivalName, Readonly<Record<string, string>>>> = {
  nginx: {},
  haproxy: {
    trailers: 'it refuses a Content-Length there; a waypoint leaves it out',
    'an absolute target': 'it hands that on; a waypoint writes path and Host',
    'an absolute target with the port of its scheme': 'likewise',
    'the same with the port in Host': 'likewise',
  },
}

for (const name of ['nginx', 'haproxy'] as const) {
  const program = findRival(name)
  const skip =
    program === undefined ? `${name} is missing: Debian's package of that name has it` : false
  void t.test(`${name} hears nothing else of odd requests`, { skip }, async (t) => {
    const rival = await startRival(t, name, program ?? '')
    const others: string[] = []
    for (const [number, odd] of ODD_CASES.entries()) {
      const { bytes, seen, told } = numbered(odd, number)
      const isRefused = told.at(-1) !== 200
      const heard = (await rival.hear(bytes + LAST)).filter((each) => each !== 'GET /last ')
      // What is refused here may pass there: whoever is stricter is on the safe side.
      if (!isRefused && JSON.stringify(heard) !== JSON.stringify(seen)) others.push(odd.name)
      if (!isRefused && OTHERWISE[name][odd.name] === undefined)
        t.strictSame(heard, seen, `${odd.name}: what the client sent`)
      const world = makeWorld()
      world.client.send(bytes)
      answerAll(world)
      const written = world.apps.filter(({ resetBy }) => resetBy === undefined)
      const passed = await Promise.all(written.map((app) => rival.hear(app.take() + LAST)))
      t.strictSame(
        passed.flat().filter((each) => each !== 'GET /last '),
        seen,
        `${odd.name}: what the waypoint wrote`,
      )
    }
    t.strictSame(others, Object.keys(OTHERWISE[name]), 'the table is true')
  })
}
