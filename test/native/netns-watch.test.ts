// SPDX-License-Identifier: Apache-2.0
// Given namespaces that are watched, whoever watches hears of a change in one, once until they have looked, however
// much is changed there.

import { execFile } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { promisify } from 'node:util'
import t from 'tap'
import { closeFd } from '../../native/libc.ts'
import { NetnsWatch } from '../../native/netns-watch.ts'
import { NetnsThread } from '../../native/netns.ts'
import { missing } from '../helpers.ts'
import { until, within } from '../support/until.ts'

const run = promisify(execFile)
const skip = missing('root')
const inside = (fd: number, command: string): Promise<unknown> =>
  run('nsenter', [`--net=/proc/${process.pid}/fd/${fd}`, 'sh', '-ec', command])

/** Counts what it is told, and lets others wait for it. */
class Told {
  count = 0
  #waiting = Promise.withResolvers<undefined>()

  readonly hear = (): void => {
    this.count += 1
    this.#waiting.resolve(undefined)
    this.#waiting = Promise.withResolvers()
  }

  next(): Promise<undefined> {
    return this.#waiting.promise
  }
}

void t.test('a change is told once, by its own namespace alone', { skip }, async (t) => {
  const thread = new NetnsThread()
  const watch = new NetnsWatch()
  const [one, other] = [await thread.create(), await thread.create()]
  const [ofOne, ofOther] = [new Told(), new Told()]
  const watched = await watch.open(thread, one, ofOne.hear)
  const watchedOther = await watch.open(thread, other, ofOther.hear)
  t.teardown(async () => {
    watched.close()
    watchedOther.close()
    watch.close()
    await thread.close()
    for (const fd of [one, other]) closeFd(fd)
  })
  const changes = [
    'ip link set lo up',
    'ip addr add 10.1.1.1/32 dev lo',
    'ip -6 addr add fd00::1/128 dev lo nodad',
    'ip rule add fwmark 7 lookup 77',
    'ip -6 rule add fwmark 7 lookup 77',
    'ip route add 10.2.0.0/16 dev lo table 77',
    'ip -6 route add fd02::/64 dev lo table 77',
    'ip addr del 10.1.1.1/32 dev lo',
    'ip rule del fwmark 7 lookup 77',
    'ip route flush table 77',
  ]
  for (const change of changes) {
    const told = ofOne.next()
    await inside(one, change)
    // The watch keeps no process alive, and its thread may be late: whoever waits does.
    await within(told, `word of ${change}`)
    t.equal(ofOne.count, 1, change)
    watched.rearm()
    ofOne.count = 0
  }
  const told = ofOne.next()
  await inside(one, 'for i in $(seq 200); do ip rule add pref $i lookup 7; done')
  await within(told, 'word of the flood')
  t.equal(ofOne.count, 1, 'a flood is told once')
  watched.rearm()
  t.equal(ofOther.count, 0, 'and nothing of it to others')
  const later = ofOther.next()
  await inside(other, 'ip link set lo up')
  await within(later, 'word of the other')
  t.equal(ofOther.count, 1)
})

void t.test('a watch that has ended holds no descriptor', { skip }, async (t) => {
  const thread = new NetnsThread()
  const fd = await thread.create()
  t.teardown(async () => {
    closeFd(fd)
    await thread.close()
  })
  const count = (): number => readdirSync('/proc/self/fd').length
  const before = count()
  for (let round = 0; round < 20; round += 1) {
    const watch = new NetnsWatch()
    const watched = await watch.open(thread, fd, () => undefined)
    watched.close()
    watch.close()
  }
  // The thread closes its own, in its own time.
  await until(
    () => count() <= before,
    () => `${count()} descriptors to become ${before}`,
  )
  t.equal(count(), before)
})
