// SPDX-License-Identifier: Apache-2.0
// A Capture that records what is asked of it and does what it is told: the tests of enrolment need no kernel.

import { closeSync, openSync } from 'node:fs'
import type { Capture, CapturePod, Enrolment, NetworkReport } from '../../agent/capture/types.ts'
import { AmbitError } from '../../mesh/errors.ts'
import { err, ok, type Result } from '../../mesh/result.ts'

export class RecordingCapture implements Capture {
  /** `+name` enrolled, `-name` withdrawn, `~name` left, `!name` refused, in order. */
  readonly calls: string[] = []
  /** Not captured any more, and with an HBONE listener. */
  readonly left = new Map<string, Enrolment>()
  readonly enrolled = new Map<string, Enrolment>()
  readonly swept: ReadonlySet<string>[] = []
  /** Pods, by name, that cannot be enrolled, and why. */
  readonly refusals = new Map<string, AmbitError>()
  /** Enrolment waits for this. */
  gate: Promise<void> = Promise.resolve()
  nextCookie = 1000n
  readonly #names = new Map<string, string>()
  readonly #busy = new Set<string>()

  get isBusy(): boolean {
    return this.#busy.size > 0
  }

  async enrol(pod: CapturePod): Promise<Result<Enrolment, AmbitError>> {
    if (this.#busy.has(pod.uid)) throw new Error(`two enrolments of ${pod.name} at once`)
    this.#busy.add(pod.uid)
    try {
      await this.gate
    } finally {
      this.#busy.delete(pod.uid)
    }
    const refusal = this.refusals.get(pod.name)
    if (refusal !== undefined) {
      this.calls.push(`!${pod.name}`)
      return err(refusal)
    }
    this.calls.push(`+${pod.name}`)
    this.#names.set(pod.uid, pod.name)
    const enrolment: Enrolment = {
      pod,
      netnsCookie: this.nextCookie,
      netnsFd: openSync(pod.netnsPath, 'r'),
      listeners: { outbound: [], inbound: [], hbone: [] },
      wasCaptured: this.enrolled.has(pod.uid),
    }
    this.enrolled.set(pod.uid, enrolment)
    this.#forget(this.left, pod.uid)
    return ok(enrolment)
  }

  leave(pod: CapturePod): Promise<Result<Enrolment, AmbitError>> {
    if (this.#busy.has(pod.uid)) throw new Error('left while being enrolled')
    this.calls.push(`~${pod.name}`)
    this.#names.set(pod.uid, pod.name)
    const enrolment: Enrolment = {
      pod,
      netnsCookie: this.nextCookie,
      netnsFd: openSync(pod.netnsPath, 'r'),
      listeners: { outbound: [], inbound: [], hbone: [] },
      wasCaptured: this.enrolled.has(pod.uid),
    }
    this.#forget(this.enrolled, pod.uid)
    this.#forget(this.left, pod.uid)
    this.left.set(pod.uid, enrolment)
    return Promise.resolve(ok(enrolment))
  }

  /** Tells of a pod's network, as capture does. */
  tell: (uid: string, report: NetworkReport) => void = () => undefined

  onNetworkReport(listener: (uid: string, report: NetworkReport) => void): void {
    this.tell = listener
  }

  withdraw(uid: string): Promise<void> {
    if (this.#busy.has(uid)) throw new Error('withdrawn while being enrolled')
    if (this.enrolled.has(uid) || this.left.has(uid))
      this.calls.push(`-${this.#names.get(uid) ?? uid}`)
    this.#forget(this.enrolled, uid)
    this.#forget(this.left, uid)
    return Promise.resolve()
  }

  sweep(keep: ReadonlySet<string>): Promise<void> {
    this.swept.push(keep)
    return Promise.resolve()
  }

  close(): Promise<void> {
    for (const uid of this.enrolled.keys()) this.#forget(this.enrolled, uid)
    for (const uid of this.left.keys()) this.#forget(this.left, uid)
    return Promise.resolve()
  }

  #forget(among: Map<string, Enrolment>, uid: string): void {
    const enrolment = among.get(uid)
    if (enrolment !== undefined) closeSync(enrolment.netnsFd)
    among.delete(uid)
  }
}

export const portTaken = (name: string): AmbitError =>
  new AmbitError('AMB_PORT_TAKEN', `Cannot enrol pod shop/${name}: port 15008 is taken in it`)
