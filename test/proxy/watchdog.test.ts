// SPDX-License-Identifier: Apache-2.0
// A worker whose event loop hangs is found and ended; one that is merely busy, or whose watcher was stopped itself, is left alone.

import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { cpuWaitMs } from '../../agent/proxy/worker/cpu-wait.ts'
import { type Watched, Watchdog } from '../../agent/proxy/worker/watchdog.ts'

const INTERVAL_MS = 5
const SILENCE_MS = 40

/** The watchdog keeps no process alive; here something must. */
const awake = setInterval(() => undefined, 60_000)
t.teardown(() => clearInterval(awake))

/** A worker that answers as the test says, and tells when it was asked and ended. */
function worker(
  index: number,
  answer: () => Promise<unknown>,
  cpuWaitMs: Watched['cpuWaitMs'] = () => undefined,
) {
  const ended = Promise.withResolvers<undefined>()
  const asked = Promise.withResolvers<undefined>()
  let pings = 0
  const watched: Watched = {
    index,
    ping: () => {
      pings += 1
      if (pings === 3) asked.resolve(undefined)
      return answer()
    },
    cpuWaitMs,
    end: () => ended.resolve(undefined),
  }
  return { watched, ended: ended.promise, askedThrice: asked.promise, pings: () => pings }
}

void t.test('the one that does not answer is ended, once, and the others go on', async (t) => {
  const sound = worker(0, () => Promise.resolve())
  const hung = worker(1, () => new Promise(() => undefined))
  const workers = [sound.watched, hung.watched]
  const told: number[] = []
  const watchdog = new Watchdog({
    workers: () => workers,
    onHung: ({ index }, silentMs) => {
      told.push(index)
      t.ok(silentMs >= SILENCE_MS - 1, 'after the time it is given')
      workers.splice(workers.indexOf(hung.watched), 1)
    },
    intervalMs: INTERVAL_MS,
    silenceMs: SILENCE_MS,
  })
  t.teardown(() => watchdog.close())
  await hung.ended
  await sound.askedThrice
  t.same(told, [1])
  t.equal(hung.pings(), 1, 'asked once: a queue of questions would help nobody')
})

void t.test('time in which a worker has no CPU is not its silence', async (t) => {
  const startedAt = performance.now()
  const starvedUntil = startedAt + 5 * SILENCE_MS
  const starved = worker(
    0,
    () => new Promise(() => undefined),
    () => Math.min(performance.now(), starvedUntil) - startedAt,
  )
  let silentMs = 0
  const watchdog = new Watchdog({
    workers: () => [starved.watched],
    onHung: (_, ms) => {
      silentMs ||= ms
    },
    intervalMs: INTERVAL_MS,
    silenceMs: SILENCE_MS,
  })
  t.teardown(() => watchdog.close())
  await starved.ended
  t.ok(performance.now() >= starvedUntil, 'while it waits for a CPU it is left alone')
  t.ok(silentMs >= 5 * SILENCE_MS, 'and it is ended once it hangs')
})

void t.test('how long a thread has waited for a CPU is known by its name', async (t) => {
  const named = new Worker('setInterval(() => {}, 1000)', {
    eval: true,
    name: 'a-thread-of-a-long-name',
  })
  t.teardown(() => named.terminate())
  await once(named, 'online')
  t.ok(Number.isFinite(cpuWaitMs('a-thread-of-a-long-name')))
  t.equal(cpuWaitMs('no such thread'), undefined)
})

void t.test('one that is gone has been noticed by its exit', async (t) => {
  const gone = worker(0, () => Promise.reject(new Error('the worker is gone')))
  const watchdog = new Watchdog({
    workers: () => [gone.watched],
    onHung: () => t.fail('it does not hang'),
    intervalMs: INTERVAL_MS,
    silenceMs: SILENCE_MS,
  })
  t.teardown(() => watchdog.close())
  await gone.askedThrice
})

void t.test('a watcher that was stopped itself judges nobody', async (t) => {
  let isAwake = false
  const first = Promise.withResolvers<undefined>()
  const asleep = worker(0, () => {
    first.resolve(undefined)
    return isAwake ? Promise.resolve() : new Promise(() => undefined)
  })
  const watchdog = new Watchdog({
    workers: () => [asleep.watched],
    onHung: () => t.fail('it was stopped together with its watcher'),
    intervalMs: INTERVAL_MS,
    silenceMs: SILENCE_MS,
  })
  t.teardown(() => watchdog.close())
  // It is asked, and has not answered.
  await first.promise
  // As SIGSTOP and SIGCONT of the whole process: no timer of ours ran meanwhile.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, SILENCE_MS + 1_200)
  isAwake = true
  await asleep.askedThrice
})
