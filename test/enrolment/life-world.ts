// SPDX-License-Identifier: Apache-2.0
// A capture and a data plane for the model test of a pod's life: both can be slow and can fail, at every point where
// the real ones can, and both keep account of what is captured, what is served, and whose the listeners are.

import { closeSync, openSync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import type { Capture, CapturePod, Enrolment, PodListeners } from '../../agent/capture/types.ts'
import { closeListeners } from '../../agent/capture/listeners.ts'
import type { PodServer, ServedPod } from '../../agent/enrolment/index.ts'
import { AmbitError } from '../../mesh/errors.ts'
import { err, ok, type Result } from '../../mesh/result.ts'

/** How the world behaves from now on. */
export interface Weather {
  /** Turns of the event loop that everything takes. */
  readonly turns: number
  /** `mistaken`: the path leads to another namespace by the time it is opened. `astray`: and that one is not let go. */
  readonly capture: 'works' | 'refuses' | 'cannotWithdraw' | 'mistaken' | 'astray'
  /** `dies`: the worker goes while a pod is being handed to it. `diesAfter`: as soon as it has taken it. */
  readonly workers: 'work' | 'refuse' | 'die' | 'dieAfter'
}

export const FINE: Weather = { turns: 0, capture: 'works', workers: 'work' }

interface Served {
  readonly netnsCookie: bigint
  listeners: PodListeners | undefined
  readonly lost: () => void
}

export class LifeWorld implements Capture, PodServer {
  weather: Weather = FINE
  /** The namespace captured, and the listeners that connections are led to. */
  captured:
    | { readonly enrolment: Enrolment; readonly path: string; readonly opened: string }
    | undefined
  served: Served | undefined
  /** Of a pod that has left: where HBONE is led to. */
  left: Enrolment | undefined
  /** What must not have been asked for in the order in which it was. */
  readonly violations: string[] = []
  readonly #failOpen: boolean
  /** Ends of service under way, which nobody who asked for them waits for. */
  readonly #ends = new Set<Promise<void>>()
  #isBusy = false

  constructor(failOpen: boolean) {
    this.#failOpen = failOpen
  }

  onNetworkReport(): void {
    // Networks of this world stay as they are.
  }

  async enrol(pod: CapturePod): Promise<Result<Enrolment, AmbitError>> {
    await this.#exclusively()
    const former = this.captured
    if (this.weather.capture === 'refuses') {
      // As the real one: what was captured stays so, unserved, unless it is to fail open.
      if (former !== undefined && this.#failOpen) this.#uncapture()
      return err(new AmbitError('AMB_ENROLMENT', 'the kernel refused'))
    }
    const opened = this.#isMistaken() ? '/dev/null' : pod.netnsPath
    const isAgain = former?.opened === opened
    if (former !== undefined && !isAgain) this.#uncapture()
    const enrolment: Enrolment = {
      pod,
      netnsCookie: cookieOf(opened),
      netnsFd: isAgain ? former.enrolment.netnsFd : openSync(opened, 'r'),
      listeners: { outbound: [fd()], inbound: [fd()], hbone: [fd()] },
      wasCaptured: isAgain,
    }
    this.captured = { enrolment, path: pod.netnsPath, opened }
    this.#forgetLeft()
    return ok(enrolment)
  }

  async leave(pod: CapturePod): Promise<Result<Enrolment, AmbitError>> {
    await this.#exclusively()
    const { capture } = this.weather
    if (capture === 'refuses' || capture === 'cannotWithdraw')
      return err(new AmbitError('AMB_ENROLMENT', 'the kernel refused'))
    const opened = this.#isMistaken() ? '/dev/null' : pod.netnsPath
    const wasCaptured = this.captured !== undefined
    this.#uncapture()
    this.#forgetLeft()
    this.left = {
      pod,
      netnsCookie: cookieOf(opened),
      netnsFd: openSync(opened, 'r'),
      listeners: { outbound: [], inbound: [], hbone: [fd()] },
      wasCaptured,
    }
    return ok(this.left)
  }

  async withdraw(): Promise<void> {
    await this.#exclusively()
    if (['cannotWithdraw', 'astray'].includes(this.weather.capture))
      throw new Error('the kernel would not let go')
    this.#uncapture()
    this.#forgetLeft()
  }

  sweep(): Promise<void> {
    return Promise.resolve()
  }

  close(): Promise<void> {
    this.#uncapture()
    this.#forgetLeft()
    return Promise.resolve()
  }

  async serve(pod: Parameters<PodServer['serve']>[0], lost: () => void): Promise<ServedPod> {
    if (this.served !== undefined) this.#violate('served twice')
    const served: Served = {
      netnsCookie: pod.enrolment.netnsCookie,
      listeners: undefined,
      lost,
    }
    await this.#take(served, pod.enrolment)
    this.served = served
    if (this.weather.workers === 'dieAfter') this.killWorker()
    return {
      serveAgain: async (enrolment) => {
        if (this.served !== served) this.#violate('served again after its end')
        await this.#take(served, enrolment)
        if (this.weather.workers === 'dieAfter') this.killWorker()
      },
      drain: () => {
        if (this.served !== served) this.#violate('drained after its end')
      },
      end: async () => {
        if (this.served !== served) this.#violate('ended twice')
        this.served = undefined
        const end = this.#turns().then(() => this.#drop(served))
        this.#ends.add(end)
        await end
        this.#ends.delete(end)
      },
    }
  }

  /** Resolves when the ends of service that have been asked for are over. */
  async settled(): Promise<void> {
    await Promise.all(this.#ends)
  }

  /** Whoever serves the pod dies: its listeners are closed with it. */
  killWorker(): void {
    const { served } = this
    if (served?.listeners === undefined) return
    this.#drop(served)
    served.lost()
  }

  /** Connections are led to listeners that somebody serves. */
  get isServed(): boolean {
    return (
      this.served?.listeners !== undefined &&
      this.served.listeners === this.captured?.enrolment.listeners
    )
  }

  /** Peers that have not heard that the pod left are led to listeners that somebody serves. */
  get isLeftServed(): boolean {
    return this.left !== undefined && this.served?.listeners === this.left.listeners
  }

  async #take(served: Served, { listeners, netnsCookie }: Enrolment): Promise<void> {
    try {
      await this.#turns()
      if (netnsCookie !== served.netnsCookie) this.#violate('served elsewhere than before')
      if (this.weather.workers === 'refuse') throw new Error('no worker takes it')
      if (this.weather.workers === 'die') {
        this.#drop(served)
        throw new Error('the worker is gone')
      }
    } catch (thrown) {
      closeListeners(listeners)
      throw thrown
    }
    this.#drop(served)
    served.listeners = listeners
  }

  #drop(served: Served): void {
    if (served.listeners !== undefined) closeListeners(served.listeners)
    served.listeners = undefined
  }

  #isMistaken(): boolean {
    return ['mistaken', 'astray'].includes(this.weather.capture)
  }

  #uncapture(): void {
    if (this.captured !== undefined) closeSync(this.captured.enrolment.netnsFd)
    this.captured = undefined
  }

  #forgetLeft(): void {
    if (this.left !== undefined) closeSync(this.left.netnsFd)
    this.left = undefined
  }

  /** Capture takes one pod's steps in turn; enrolment must not rely on that. */
  async #exclusively(): Promise<void> {
    if (this.#isBusy) this.#violate('two steps of one pod at once')
    this.#isBusy = true
    await this.#turns()
    this.#isBusy = false
  }

  #violate(what: string): never {
    this.violations.push(what)
    throw new Error(what)
  }

  async #turns(): Promise<void> {
    for (let left = this.weather.turns; left > 0; left -= 1) await turn()
  }
}

const fd = (): number => openSync('/dev/null', 'r')
const cookieOf = (path: string): bigint => BigInt(path.length)
