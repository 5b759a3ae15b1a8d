// SPDX-License-Identifier: Apache-2.0
// The pool of data-plane workers: who gets a pod, and what becomes of the pods of a worker that dies.

import { closeSync, fstatSync, openSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import type { Enrolment } from '../../agent/capture/types.ts'
import { WorkerPool, type WorkerPoolOptions } from '../../agent/proxy/worker/worker-pool.ts'
import { AmbitError } from '../../mesh/errors.ts'
import { heldLimitOf } from '../../mesh/hbone/limits.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { err, ok } from '../../mesh/result.ts'
import { testPod } from './loopback-world.ts'
import { DEADLY_LISTENER, ENDLESS_LISTENER } from './obedient-worker.ts'

const PATIENCE_MS = 10_000

type ReEnrol = WorkerPoolOptions['reEnrol']

class Setting {
  readonly pool: WorkerPool
  readonly reEnrolled: string[] = []
  readonly errors: string[] = []
  readonly #netnsFd = openSync('/dev/null', 'r')

  constructor(
    t: Test,
    count: number,
    reEnrol?: (setting: Setting, uid: string) => ReturnType<ReEnrol>,
  ) {
    const log = pino({ level: 'error' }, { write: (line: string) => void this.errors.push(line) })
    this.pool = new WorkerPool({
      count,
      workerUrl: new URL('./obedient-worker.ts', import.meta.url),
      start: {
        handles: { socketStorageMapFd: -1, homeNetnsFd: -1 },
        network: '',
        logLevel: 'silent',
        sameNode: 'direct',
        maxConnectionsPerPod: 1,
        heldLimitBytes: heldLimitOf(1),
      },
      mesh: new MeshState(),
      certificates: {
        retain: () => undefined,
        release: () => undefined,
        onCertificate: () => () => undefined,
        current: () => undefined,
        get: () => Promise.resolve(err({ kind: 'unavailable', message: 'no CA in this test' })),
      },
      log,
      onTraffic: () => undefined,
      watchdog: { intervalMs: 20, silenceMs: 500 },
      reEnrol: async (uid) => {
        this.reEnrolled.push(uid)
        return reEnrol === undefined ? ok(this.enrolment(uid, 2)) : reEnrol(this, uid)
      },
    })
    t.teardown(async () => {
      await this.pool.close(0)
      closeSync(this.#netnsFd)
    })
  }

  enrolment(uid: string, listener: number): Enrolment {
    return {
      pod: { ...this.#facts(uid), netnsPath: '/dev/null', failOpen: false },
      netnsCookie: 1n,
      netnsFd: this.#netnsFd,
      listeners: { outbound: [listener], inbound: [], hbone: [] },
    }
  }

  async add(...uids: readonly string[]): Promise<void> {
    for (const uid of uids) await this.pool.addPod(this.#facts(uid), this.enrolment(uid, 1))
  }

  /** `a: data-plane-0 listener 1`, for every pod that is served. */
  async served(): Promise<readonly string[]> {
    const dump = await this.pool.connections()
    return [...dump].map(([uid, [what]]) => `${uid}: ${what?.src} ${what?.actualDst}`).sort()
  }

  /** Waits until so many pods are served. */
  async serves(count: number): Promise<readonly string[]> {
    const deadline = performance.now() + PATIENCE_MS
    for (;;) {
      const served = await this.served()
      if (served.length === count) return served
      if (performance.now() > deadline) throw new Error(`served are ${served.join(', ')}`)
      await delay(5)
    }
  }

  /** Ends the worker that serves the pod. */
  async killWorkerOf(t: Test, uid: string): Promise<void> {
    await t.rejects(this.pool.drainPod(uid, 0), /the worker is gone/)
  }

  #facts(uid: string) {
    return { ...testPod(uid, '10.244.1.7' as IpAddress), uid }
  }
}

/** Stands for a listener. Told by its file, for a number that was closed may be another's a moment later. */
function openListener(t: Test): { readonly fd: number; readonly isOpen: () => boolean } {
  const fd = openSync(join(t.testdir({ listener: '' }), 'listener'), 'r')
  const { dev, ino } = fstatSync(fd)
  const isOpen = (): boolean =>
    readdirSync('/proc/self/fd').some((each) => {
      const file = statSync(`/proc/self/fd/${each}`, { throwIfNoEntry: false })
      return file?.dev === dev && file.ino === ino
    })
  t.teardown(() => isOpen() && closeSync(fd))
  return { fd, isOpen }
}

void t.test('a worker that hangs is ended, and its pods are served by another', async (t) => {
  const setting = new Setting(t, 2)
  await setting.pool.ready()
  await setting.add('sound')
  // The other worker gets it, being the emptier one, and never comes back from it.
  const hanging = setting.pool.addPod(
    { ...testPod('endless', '10.244.1.8' as IpAddress), uid: 'endless' },
    setting.enrolment('endless', ENDLESS_LISTENER),
  )
  await t.rejects(hanging, /the worker is gone/)
  t.same(await setting.serves(2), [
    'endless: data-plane-0 listener 2',
    'sound: data-plane-0 listener 1',
  ])
  t.same(setting.reEnrolled, ['endless'])
  t.match(setting.errors.join(''), /"worker":1.*a data-plane worker hangs/)
  t.same(setting.pool.unkillable, [])
})

void t.test('a pod goes to the worker that has the fewest', async (t) => {
  const setting = new Setting(t, 3)
  await setting.add('a', 'b', 'c', 'd', 'e')
  t.same(await setting.served(), [
    'a: data-plane-0 listener 1',
    'b: data-plane-1 listener 1',
    'c: data-plane-2 listener 1',
    'd: data-plane-0 listener 1',
    'e: data-plane-1 listener 1',
  ])
  await setting.pool.removePod('b', 0)
  await setting.pool.removePod('e', 0)
  await setting.add('f', 'g', 'a')
  t.match(await setting.served(), [
    'a: data-plane-0',
    'c: data-plane-2',
    'd: data-plane-0',
    'f: data-plane-1',
    'g: data-plane-1',
  ])
})

void t.test(
  "a dead worker's pods get fresh listeners on another, and no other pod moves",
  async (t) => {
    const setting = new Setting(t, 2)
    await setting.add('a', 'b', 'c', 'd')
    await setting.killWorkerOf(t, 'a')
    t.match(await setting.serves(4), [
      /^a: data-plane-1 listener 2$/,
      /^b: data-plane-1 listener 1$/,
      // The dead worker's successor may be up by the time it is the second pod's turn.
      /^c: data-plane-[01] listener 2$/,
      /^d: data-plane-1 listener 1$/,
    ])
    t.same(setting.reEnrolled, ['a', 'c'])
    t.match(setting.errors, [/a data-plane worker died/])

    // Its successor starts after a moment, has no pods, and knows them all.
    while ((await setting.pool.unresponsive(PATIENCE_MS)).length > 0) await delay(5)
    await setting.add('e')
    t.match(await setting.served(), ['a', 'b', 'c', 'd', 'e: data-plane-0 listener 1'])
    const [e] = (await setting.pool.connections()).get('e') ?? []
    t.equal(e?.originalDst, 'a b c d e')
  },
)

void t.test('pods of the only worker wait for its successor', async (t) => {
  const setting = new Setting(t, 1)
  await setting.add('a', 'b')
  await setting.killWorkerOf(t, 'b')
  t.same(await setting.serves(2), ['a: data-plane-0 listener 2', 'b: data-plane-0 listener 2'])
})

void t.test('a pod that cannot be enrolled again does not keep others from it', async (t) => {
  const setting = new Setting(t, 2, async (self, uid) =>
    uid === 'a' ? err(new AmbitError('AMB_PORT_TAKEN', 'taken')) : ok(self.enrolment(uid, 2)),
  )
  await setting.add('a', 'b', 'c')
  await setting.killWorkerOf(t, 'a')
  t.match(await setting.serves(2), [
    /^b: data-plane-1 listener 1$/,
    /^c: data-plane-[01] listener 2$/,
  ])
  t.match(setting.errors[1], /"pod":"a","error":"taken".*cannot serve a pod/)
})

void t.test(
  'a pod whose next worker dies, too, is served by a third and can be removed',
  async (t) => {
    const setting = new Setting(t, 3, async (self, uid) =>
      ok(self.enrolment(uid, self.reEnrolled.length === 1 ? DEADLY_LISTENER : 3)),
    )
    await setting.add('a')
    await setting.killWorkerOf(t, 'a')
    // Or by the first one's successor, which starts after a moment and may be up before the second is dead.
    t.match(await setting.serves(1), [/^a: data-plane-[02] listener 3$/])
    t.equal(setting.errors.length, 2, 'two deaths are told, and no failure')
    await setting.pool.removePod('a', 0)
    t.same(await setting.served(), [])
  },
)

void t.test('a pod that leaves while it is enrolled again is not served any more', async (t) => {
  const listener = openListener(t)
  const asked = Promise.withResolvers<void>()
  const hasLeft = Promise.withResolvers<void>()
  const setting = new Setting(t, 2, async (self, uid) => {
    asked.resolve()
    await hasLeft.promise
    return ok(self.enrolment(uid, listener.fd))
  })
  await setting.add('a')
  await setting.killWorkerOf(t, 'a')
  await asked.promise
  await setting.pool.removePod('a', 0)
  hasLeft.resolve()
  await delay(0)
  t.same(await setting.served(), [])
  t.notOk(listener.isOpen(), 'its listeners are closed')
})

void t.test(
  'a pod whose next worker dies while it is enrolled again gets a third, and no listeners are left over',
  async (t) => {
    const leftOver = openListener(t)
    const goOn = Promise.withResolvers<void>()
    const setting = new Setting(t, 3, async (self, uid) => {
      if (self.reEnrolled.length > 1) return ok(self.enrolment(uid, 3))
      await goOn.promise
      return ok(self.enrolment(uid, leftOver.fd))
    })
    await setting.add('a')
    await setting.killWorkerOf(t, 'a')
    await setting.killWorkerOf(t, 'a')
    t.match(await setting.serves(1), [/^a: data-plane-[02] listener 3$/])
    goOn.resolve()
    await delay(0)
    t.match(await setting.serves(1), [/^a: data-plane-[02] listener 3$/])
    t.equal(setting.errors.length, 2, 'two deaths are told, and no failure')
    t.notOk(leftOver.isOpen(), 'the listeners that came too late are closed')
  },
)
