// SPDX-License-Identifier: Apache-2.0
// Keeps the file of mesh namespaces right (members-file.ts): writes it when they change, and again every minute, which is
// the agent's sign of life to the plugin and puts the file back where somebody removed it.

import { rm } from 'node:fs/promises'
import { errorMessage } from '../../mesh/errors.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import { readMembers, writeMembers } from './members-file.ts'

export interface MembersKeeperOptions {
  readonly file: string
  readonly epoch: number
  /** Asked before each write. Once the node is another agent's, that one keeps the file. */
  readonly mayWrite: () => Promise<boolean>
  /**
   * The namespaces as they are known now, undefined when nothing is known yet. While they may be more than that
   * (`isComplete` false) those of an earlier agent stay in the file.
   */
  readonly known: () =>
    | { readonly namespaces: readonly string[]; readonly isComplete: boolean }
    | undefined
  readonly logger: Logger
}

/** The plugin takes an agent without a pod for gone ten times later (native/cni/ambit-cni.c). */
const REWRITE_MS = 60_000
/** Changes that come together are written together. */
const SOON_MS = 20

export class MembersKeeper {
  readonly #options: MembersKeeperOptions
  readonly #timer: NodeJS.Timeout
  #soon: NodeJS.Timeout | undefined
  /** What earlier agents wrote and this one cannot confirm yet. */
  #inherited: readonly string[] = []
  #written: string | undefined
  #complaint = ''
  #isClosed = false
  #writes: Promise<void> = Promise.resolve()
  readonly #tried = Promise.withResolvers<void>()
  /** Resolves when there is a file, or it was tried to write one: without it the plugin lets nobody in while the agent is away. */
  readonly tried: Promise<void> = this.#tried.promise
  /** Whether that is so. */
  hasTried = false

  private constructor(options: MembersKeeperOptions, inherited: readonly string[] | undefined) {
    this.#options = options
    this.#inherited = inherited ?? []
    if (inherited !== undefined) this.#markTried()
    this.#timer = setInterval(() => this.#queue(true), REWRITE_MS)
    this.#timer.unref()
    this.#queue(false)
  }

  /** Begins with what an earlier agent has left. */
  static async start(options: MembersKeeperOptions): Promise<MembersKeeper> {
    return new MembersKeeper(options, await readMembers(options.file))
  }

  /** What is known may have changed. It is written within `delayMs` milliseconds. */
  changed(delayMs = SOON_MS): void {
    if (this.#soon !== undefined || this.#isClosed) return
    this.#soon = setTimeout(() => {
      this.#soon = undefined
      this.#queue(false)
    }, delayMs)
  }

  /** Leaves the file for the next agent, and for the plugin meanwhile. */
  async close(): Promise<void> {
    this.#isClosed = true
    clearInterval(this.#timer)
    clearTimeout(this.#soon)
    await this.#writes
  }

  /** The mesh leaves the node. */
  async remove(): Promise<void> {
    await this.close()
    await rm(this.#options.file, { force: true })
  }

  #queue(isDue: boolean): void {
    this.#writes = this.#writes.then(() => (this.#isClosed ? undefined : this.#write(isDue)))
  }

  async #write(isDue: boolean): Promise<void> {
    const { known, mayWrite, file, epoch, logger } = this.#options
    const now = known()
    if (now === undefined) return
    if (now.isComplete) this.#inherited = []
    const namespaces = [...new Set([...now.namespaces, ...this.#inherited])].sort()
    const text = namespaces.join('\n')
    if (!isDue && text === this.#written) return
    try {
      if (!(await mayWrite())) return
      await writeMembers(file, namespaces, epoch)
      this.#written = text
      this.#complaint = ''
    } catch (thrown) {
      const complaint = errorMessage(thrown)
      if (complaint !== this.#complaint)
        logger.warn(
          { file, error: complaint },
          'cannot write down which namespaces are in the mesh; while the agent is away, the CNI plugin goes by what was written before',
        )
      this.#complaint = complaint
    } finally {
      this.#markTried()
    }
  }

  #markTried(): void {
    this.hasTried = true
    this.#tried.resolve()
  }
}
