// SPDX-License-Identifier: Apache-2.0
// The heart of a control loop: keys to reconcile, each once however often it was added, soon but not
// inside the write that caused it; failures again after a growing pause.

import { errorMessage } from '../../../../mesh/errors.ts'

/** Returns a sentence when the work could not be done yet and should be tried again. */
export type Reconcile = (key: string) => Promise<string | undefined> | string | undefined

const FIRST_RETRY_MS = 50
const MAX_RETRY_MS = 10_000
/** A loop that undoes its own work would spin for ever; yielding this often lets everything else run. */
const KEYS_PER_TURN = 500

export class WorkQueue {
  readonly #reconcile: Reconcile
  readonly #onError: (error: Error) => void
  readonly #name: string
  readonly #keys = new Set<string>()
  readonly #failures = new Map<string, number>()
  readonly #timers = new Set<NodeJS.Timeout>()
  #turn: NodeJS.Immediate | undefined
  #isWorking = false
  #isStopped = false

  constructor(name: string, reconcile: Reconcile, onError: (error: Error) => void) {
    this.#name = name
    this.#reconcile = reconcile
    this.#onError = onError
  }

  /** Whether there is nothing to do but retries. */
  get isIdle(): boolean {
    return this.#keys.size === 0 && !this.#isWorking
  }

  add(key: string): void {
    if (this.#isStopped) return
    this.#keys.add(key)
    this.#schedule()
  }

  stop(): void {
    this.#isStopped = true
    this.#keys.clear()
    clearImmediate(this.#turn)
    for (const timer of this.#timers) clearTimeout(timer)
    this.#timers.clear()
  }

  /** One key after the other: a loop never meets its own half-done work. */
  #schedule(): void {
    if (this.#isWorking) return
    this.#turn ??= setImmediate(() => void this.#work())
  }

  async #work(): Promise<void> {
    this.#turn = undefined
    this.#isWorking = true
    let left = KEYS_PER_TURN
    for (const key of this.#keys) {
      if (left === 0) break
      left -= 1
      this.#keys.delete(key)
      await this.#workOn(key)
    }
    this.#isWorking = false
    if (this.#keys.size > 0) this.#schedule()
  }

  async #workOn(key: string): Promise<void> {
    let problem: string | undefined
    try {
      problem = await this.#reconcile(key)
    } catch (thrown) {
      problem = errorMessage(thrown)
      this.#onError(new Error(`${this.#name}: ${key}: ${problem}`, { cause: thrown }))
    }
    if (problem === undefined) {
      this.#failures.delete(key)
      return
    }
    if (this.#isStopped) return
    const failures = this.#failures.get(key) ?? 0
    this.#failures.set(key, failures + 1)
    const timer = setTimeout(
      () => {
        this.#timers.delete(timer)
        this.add(key)
      },
      Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** failures),
    ).unref()
    this.#timers.add(timer)
  }
}
