// SPDX-License-Identifier: Apache-2.0
// One worker thread as the main thread sees it: messages out, questions with answers, and the news of its death.

import { setFlagsFromString } from 'node:v8'
import { Worker } from 'node:worker_threads'
import { inTime } from '../../../mesh/async/deadline.ts'
import type { SpiffeId } from '../../../mesh/model/types.ts'
import type { PodListeners } from '../../capture/types.ts'
import type { LocalPod } from '../local-pod.ts'
import type { EncodedRequest } from '../../../mesh/telemetry/otlp/wire.ts'
import type { TrafficDelta } from '../../../mesh/telemetry/traffic.ts'
import { HandedListeners } from './handed-listeners.ts'
import type { PodAuditEvents } from '../pod-audit.ts'
import type { EjectionChange } from '../ejection-lines.ts'
import type {
  AuditedPod,
  FromWorker,
  ToWorker,
  WorkerAnswers,
  WorkerRequest,
  WorkerStart,
} from './worker-protocol.ts'

/** A thread that does not end in this time is left to the end of the process. */
const TERMINATE_DEADLINE_MS = 1_000
/** For a worker's young objects: V8's own limit, whatever the process was started with. */
const SEMI_SPACE_MIB = 32

export interface WorkerLinkEvents {
  readonly onEjection: (change: EjectionChange) => void
  readonly onAudit: (pod: AuditedPod, events: PodAuditEvents) => void
  readonly onTraffic: (deltas: readonly TrafficDelta[]) => void
  readonly onAccessLines: (request: EncodedRequest, leftOut: number) => void
  readonly onCertificateWanted: (link: WorkerLink, identity: SpiffeId) => void
  /** Called once, when the thread is gone without having been told to. */
  readonly onExit: (error: Error | undefined) => void
}

interface Question {
  readonly resolve: (value: WorkerAnswers[WorkerRequest['kind']]) => void
  readonly reject: (error: Error) => void
}

export class WorkerLink {
  readonly #worker: Worker
  readonly #questions = new Map<number, Question>()
  readonly #events: WorkerLinkEvents
  readonly #listeners = new HandedListeners()
  #nextId = 1
  #error: Error | undefined
  #isGone = false
  #hasAnswered = false
  #isKilled = false
  #isTerminating = false

  constructor(url: URL, start: WorkerStart, name: string, events: WorkerLinkEvents) {
    this.#events = events
    // What the main thread was started with, which makes little garbage, is too little for a thread that relays.
    setFlagsFromString(`--max-semi-space-size=${SEMI_SPACE_MIB}`)
    this.#worker = new Worker(url, { workerData: start, name })
    this.#worker.on('message', (message: FromWorker) => this.#receive(message))
    this.#worker.on('error', (error) => {
      this.#error = error instanceof Error ? error : new Error(String(error))
    })
    this.#worker.on('exit', () => this.#exited())
  }

  /** Sends without an answer; to a dead worker it is dropped, its successor gets the state anew. */
  send(message: ToWorker): void {
    if (!this.#isGone) this.#worker.postMessage(message)
  }

  /** Asks and waits; rejects when the worker fails the request or dies. */
  ask<K extends WorkerRequest['kind']>(
    request: Extract<WorkerRequest, { readonly kind: K }>,
  ): Promise<WorkerAnswers[K]> {
    if (this.#isGone) return Promise.reject(new Error('the worker is gone'))
    const id = this.#nextId
    this.#nextId += 1
    return new Promise((resolve, reject) => {
      this.#questions.set(id, {
        // The worker answers each kind with its own type (WorkerAnswers); the map cannot say so.
        resolve: (value) => resolve(value as WorkerAnswers[K]),
        reject,
      })
      this.#worker.postMessage({ kind: 'request', id, request } satisfies ToWorker)
    })
  }

  /** Has the thread serve a pod. When it cannot, the listeners are closed, whatever it died of and when. */
  async servePod(pod: LocalPod, listeners: PodListeners): Promise<void> {
    const handed = this.#listeners.add(listeners)
    try {
      await this.ask({ kind: 'servePod', pod, listeners })
    } catch (thrown) {
      // A thread that failed and lives has let go of the pod (DataPlane); one that is gone can touch nothing.
      this.#listeners.reclaim(handed)
      throw thrown
    }
  }

  /** Whether the worker's event loop answers in time. */
  async isAlive(timeoutMs: number): Promise<boolean> {
    const answered = this.ask({ kind: 'ping' }).then(
      () => true,
      () => false,
    )
    return (await inTime(answered, timeoutMs)) === true
  }

  /** Whether the thread has come up and lives: only then is its silence a bad sign. */
  get hasAnswered(): boolean {
    return this.#hasAnswered && !this.#isGone
  }

  /** Whether it was ended and is still there: something native holds the thread, and nothing in this process can end it. */
  get isUnkillable(): boolean {
    return this.#isKilled && !this.#isGone
  }

  /** Ends a thread that hangs; its exit is told as any other death. */
  kill(): void {
    this.#isKilled = true
    void this.#worker.terminate()
  }

  async terminate(): Promise<void> {
    this.#isTerminating = true
    await inTime(this.#worker.terminate(), TERMINATE_DEADLINE_MS)
  }

  #receive(message: FromWorker): void {
    switch (message.kind) {
      case 'traffic':
        this.#events.onTraffic(message.deltas)
        return
      case 'ejection':
        this.#events.onEjection(message.change)
        return
      case 'audit':
        this.#events.onAudit(message.pod, message)
        return
      case 'accessLines':
        this.#events.onAccessLines(message.request, message.leftOut)
        return
      case 'certificateWanted':
        this.#events.onCertificateWanted(this, message.identity)
        return
      case 'answer':
        this.#hasAnswered = true
        this.#questions.get(message.id)?.resolve(message.value)
        this.#questions.delete(message.id)
        return
      case 'failure':
        this.#questions.get(message.id)?.reject(new Error(message.message))
        this.#questions.delete(message.id)
        return
    }
  }

  #exited(): void {
    this.#isGone = true
    const error = this.#error ?? new Error('the worker is gone')
    for (const question of this.#questions.values()) question.reject(error)
    this.#questions.clear()
    this.#listeners.reclaim()
    if (!this.#isTerminating) this.#events.onExit(this.#error)
  }
}
