// SPDX-License-Identifier: Apache-2.0
// The pool of data-plane workers: who gets a pod, and what becomes of the pods of a worker that dies.

import { closeSync, fstatSync, openSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import type { Enrolment } from '../../agent/capture/types.ts'
import { WorkerPool } from '../../agent/proxy/worker/worker-pool.ts'
import { EVERY_LINE } from '../../mesh/telemetry/access-spec.ts'
import { heldLimitOf } from '../../mesh/hbone/limits.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { IpAddress, PodUid } from '../../mesh/model/types.ts'
import { err } from '../../mesh/result.ts'
import { until } from '../support/until.ts'
import { testPod } from './loopback-world.ts'
import { sampleWorkload } from '../model/samples.ts'
import { DEADLY_LISTENER, ENDLESS_LISTENER } from './obedient-worker.ts'

const PATIENCE_MS = 10_000

/** Numbers of no file of this process: what the pool does with listeners that are real is told by tests of its own. */
const LISTENER = { first: 900_001, second: 900_002, third: 900_003 } as const

class Setting {
  readonly pool: WorkerPool
  /** Pods that were told that their listeners are lost, in order. */
  readonly lost: string[] = []
  /** Who could not be served again, and why. */
  readonly refused: string[] = []
  readonly errors: string[] = []
  readonly mesh = new MeshState()
  readonly #netnsFd = openSync('/dev/null', 'r')
  readonly #again: (setting: Setting, uid: string) => number | undefined

  /** `again` names the listener that a pod gets whose listeners are lost; undefined when it gets none. */
  constructor(
    t: Test,
    count: number,
    again: (setting: Setting, uid: string) => number | undefined = () => LISTENER.second,
  ) {
    this.#again = again
    const log = pino({ level: 'error' }, { write: (line: string) => void this.errors.push(line) })
    this.pool = new WorkerPool({
      count,
      workerUrl: new URL('./obedient-worker.ts', import.meta.url),
      start: {
        handles: { socketStorageMapFd: -1, askedSinceMapFd: -1, homeNetnsFd: -1 },
        network: '',
        logLevels: { level: 'silent', parts: {} },
        logFormat: 'json',
        accessSpec: EVERY_LINE,
        sameNode: 'direct',
        sameNodeSecurityLabel: 'node_local',
        missingPolicies: 'refuse',
        rootNamespace: 'istio-system',
        placeLimits: { descriptors: 100, perPod: 1, handshakes: 100 },
        heldLimitBytes: heldLimitOf(1),
      },
      mesh: this.mesh,
      // What discovery has dropped: a worker that starts later is told of it as the first was.
      lastSaid: (uid) =>
        uid.endsWith('/b') ? { workload: undefined, unreadable: '(last words)' } : undefined,
      certificates: {
        retain: () => undefined,
        release: () => undefined,
        onCertificate: () => () => undefined,
        current: () => undefined,
        get: () => Promise.resolve(err({ kind: 'unavailable', message: 'no CA in this test' })),
      },
      log,
      onTraffic: () => undefined,
      onEjection: () => undefined,
      onAudit: () => undefined,
      watchdog: { intervalMs: 20, silenceMs: 500 },
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
      wasCaptured: false,
    }
  }

  async add(...uids: readonly string[]): Promise<void> {
    for (const uid of uids) await this.serve(uid, LISTENER.first)
  }

  serve(uid: string, listener: number): Promise<void> {
    return this.pool.addPod(this.#facts(uid), this.enrolment(uid, listener), () => {
      this.lost.push(uid)
      const next = this.#again(this, uid)
      if (next === undefined) return
      this.serve(uid, next).catch((thrown: unknown) => this.refused.push(`${uid}: ${thrown}`))
    })
  }

  /** `a: data-plane-0 listener 900001`, for every pod that is served. */
  async served(): Promise<readonly string[]> {
    const dump = await this.pool.connections()
    return [...dump].map(([uid, [what]]) => `${uid}: ${what?.src} ${what?.actualDst}`).sort()
  }

  /** Waits until so many pods are served. */
  async serves(count: number): Promise<readonly string[]> {
    let served: readonly string[] = []
    await until(
      async () => {
        served = await this.served()
        return served.length === count
      },
      () => `${count} pods that are served; there are ${served.join(', ')}`,
    )
    return served
  }

  /** Ends the worker that serves the pod. */
  async killWorkerOf(t: Test, uid: string): Promise<void> {
    await t.rejects(this.pool.drainPod(uid), /the worker is gone/)
  }

  #facts(uid: string) {
    return { ...testPod(uid, '10.244.1.7' as IpAddress), uid: uid as PodUid }
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
  await setting.add('sound', 'endless')
  await t.rejects(setting.serve('endless', ENDLESS_LISTENER), /the worker is gone/)
  t.same(await setting.serves(2), [
    'endless: data-plane-0 listener 900002',
    'sound: data-plane-0 listener 900001',
  ])
  t.same(setting.lost, ['endless'])
  t.match(setting.errors.join(''), /"worker":1.*a data-plane worker hangs/)
  t.same(setting.pool.unkillable, [])
})

void t.test('a pod goes to the worker that has the fewest', async (t) => {
  const setting = new Setting(t, 3)
  await setting.add('a', 'b', 'c', 'd', 'e')
  t.same(await setting.served(), [
    'a: data-plane-0 listener 900001',
    'b: data-plane-1 listener 900001',
    'c: data-plane-2 listener 900001',
    'd: data-plane-0 listener 900001',
    'e: data-plane-1 listener 900001',
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
    const gone = sampleWorkload('catalog')
    setting.mesh.apply([{ kind: 'workload', workload: gone }])
    setting.mesh.apply([{ kind: 'workloadRemoved', uid: gone.uid }])
    await setting.killWorkerOf(t, 'a')
    t.match(await setting.serves(4), [
      /^a: data-plane-1 listener 900002$/,
      /^b: data-plane-1 listener 900001$/,
      // The dead worker's successor may be up by the time it is the second pod's turn.
      /^c: data-plane-[01] listener 900002$/,
      /^d: data-plane-1 listener 900001$/,
    ])
    t.same(setting.lost, ['a', 'c'])
    t.match(setting.errors, [/a data-plane worker died/])

    // Its successor starts after a moment, has no pods, and knows them all.
    await until(
      async () => (await setting.pool.unresponsive(PATIENCE_MS)).length === 0,
      'the successor',
    )
    await setting.add('e')
    t.match(await setting.served(), ['a', 'b', 'c', 'd', 'e: data-plane-0 listener 900001'])
    const [e] = (await setting.pool.connections()).get('e') ?? []
    t.equal(e?.originalDst, '(catalog, gone) a b(last words) c d e')
  },
)

void t.test('pods of the only worker wait for its successor', async (t) => {
  const setting = new Setting(t, 1)
  await setting.add('a', 'b')
  await setting.killWorkerOf(t, 'b')
  t.same(await setting.serves(2), [
    'a: data-plane-0 listener 900002',
    'b: data-plane-0 listener 900002',
  ])
})

void t.test('a pod that gets no listeners again does not keep others from theirs', async (t) => {
  const setting = new Setting(t, 2, (_, uid) => (uid === 'a' ? undefined : LISTENER.second))
  await setting.add('a', 'b', 'c')
  await setting.killWorkerOf(t, 'a')
  t.match(await setting.serves(2), [
    /^b: data-plane-1 listener 900001$/,
    /^c: data-plane-[01] listener 900002$/,
  ])
  await until(() => setting.lost.length === 3, 'the word to the pod that waits')
  t.same(setting.lost, ['a', 'c', 'a'], 'it is told again when the next worker is up')
})

void t.test(
  'a pod whose next worker dies, too, is served by a third and can be removed',
  async (t) => {
    const setting = new Setting(t, 3, (self) =>
      self.lost.length === 1 ? DEADLY_LISTENER : LISTENER.third,
    )
    await setting.add('a')
    await setting.killWorkerOf(t, 'a')
    // Or by the first one's successor, which starts after a moment and may be up before the second is dead.
    t.match(await setting.serves(1), [/^a: data-plane-[02] listener 900003$/])
    t.equal(setting.errors.length, 2, 'two deaths are told')
    t.match(setting.refused, [/^a: .*the worker is gone/])
    await setting.pool.removePod('a', 0)
    t.same(await setting.served(), [])
  },
)

void t.test('a worker that dies while a pod is handed to it leaves no listener open', async (t) => {
  const setting = new Setting(t, 2, () => undefined)
  const listener = openListener(t)
  const serving = setting.serve('a', listener.fd)
  await t.rejects(setting.serve('b', DEADLY_LISTENER), /the worker is gone/)
  await serving
  t.ok(listener.isOpen(), 'the other worker keeps what it has')
  // Behind the order to die, in the same worker's queue.
  const late = openListener(t)
  const dying = setting.killWorkerOf(t, 'a')
  await t.rejects(setting.serve('a', late.fd), /the worker is gone/)
  await dying
  t.notOk(late.isOpen(), 'what was under way to it')
  t.notOk(listener.isOpen(), 'what it held without having made a server of it')
})

void t.test('a pod that no worker takes is not half there', async (t) => {
  const setting = new Setting(t, 1)
  await t.rejects(setting.serve('a', DEADLY_LISTENER), /the worker is gone/)
  t.same(setting.pool.pods(), [])
  const early = openListener(t)
  await t.rejects(setting.serve('b', early.fd), /the worker is gone/, 'before the next is up')
  t.notOk(early.isOpen())
  t.same(setting.lost, [], 'who asked was told by the rejection')
})

void t.test('a pool that closes leaves no listener open, and takes none', async (t) => {
  const setting = new Setting(t, 1)
  const [held, underWay, late] = [openListener(t), openListener(t), openListener(t)]
  await setting.serve('a', held.fd)
  const serving = setting.serve('b', underWay.fd).catch(String)
  await setting.pool.close(0)
  await serving
  await t.rejects(setting.serve('c', late.fd), /closing/)
  for (const { isOpen } of [held, underWay, late]) t.notOk(isOpen())
})
