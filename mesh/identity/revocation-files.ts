// SPDX-License-Identifier: Apache-2.0
// The operator's lists of revoked certificates, as files that may change while the process runs. A file that cannot be used changes
// nothing: what it said before stays said, and the log is loud about it.

import { unwatchFile, watchFile } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { errorMessage } from '../errors.ts'
import { readRevocationLists, type RevocationList } from './revocation-list.ts'
import type { Logger } from '../telemetry/log.ts'

export interface RevocationFilesOptions {
  readonly files: readonly string[]
  readonly log: Logger
  /** Told of all lists together, first and whenever one has changed. */
  readonly onLists: (lists: readonly RevocationList[]) => void
  readonly lookEveryMs?: number
}

/** As for roots: the kubelet swaps files behind a symbolic link, which a watch of the file does not see. */
const LOOK_EVERY_MS = 2_000
/** Of one file: some 300,000 revoked certificates. */
const LARGEST_FILE = 16 * 1024 * 1024

/** What is known of one file. */
interface Known {
  bytes: Buffer | undefined
  lists: readonly RevocationList[]
  /** What was last said to be wrong with it. */
  fault: string | undefined
}

export class RevocationFiles {
  readonly #options: RevocationFilesOptions
  readonly #known = new Map<string, Known>()
  readonly #lookAgain = (): void => {
    this.#looking = this.#looking.then(() => this.#look())
  }
  #looking: Promise<void> = Promise.resolve()

  constructor(options: RevocationFilesOptions) {
    this.#options = options
    for (const file of options.files)
      this.#known.set(file, { bytes: undefined, lists: [], fault: undefined })
  }

  /** Reads the files, tells what they say, and follows them. To be awaited before a connection is made or taken. */
  async start(): Promise<void> {
    await this.#look()
    const { lookEveryMs: interval = LOOK_EVERY_MS } = this.#options
    for (const file of this.#known.keys())
      watchFile(file, { interval, persistent: false }, this.#lookAgain)
  }

  async close(): Promise<void> {
    for (const file of this.#known.keys()) unwatchFile(file, this.#lookAgain)
    await this.#looking
  }

  async #look(): Promise<void> {
    let isChanged = false
    for (const [file, known] of this.#known)
      isChanged = (await this.#read(file, known)) || isChanged
    if (isChanged) this.#options.onLists([...this.#known.values()].flatMap(({ lists }) => lists))
  }

  /** Whether the file says something else than before. */
  async #read(file: string, known: Known): Promise<boolean> {
    const { log } = this.#options
    const bytes = await readBounded(file).catch((thrown: unknown) => errorMessage(thrown))
    const lists =
      typeof bytes === 'string' ? { ok: false as const, error: bytes } : readRevocationLists(bytes)
    if (!lists.ok || typeof bytes === 'string') {
      const fault = lists.ok ? '' : lists.error
      if (fault === known.fault) return false
      known.fault = fault
      log.error(
        { file, reason: fault, lists: known.lists.length },
        known.bytes === undefined
          ? 'the list of revoked certificates cannot be used: nothing is known to be revoked by it'
          : 'the list of revoked certificates cannot be used: what it said before stays in force',
      )
      return false
    }
    known.fault = undefined
    if (known.bytes?.equals(bytes) === true) return false
    known.bytes = bytes
    known.lists = lists.value
    const revoked = lists.value.reduce((sum, { serials }) => sum + serials.length, 0)
    log.info({ file, lists: lists.value.length, revoked }, 'certificates are revoked by this list')
    const now = Date.now()
    if (lists.value.some(({ nextUpdateMs }) => nextUpdateMs !== undefined && nextUpdateMs < now))
      log.warn(
        { file },
        'a list of revoked certificates is out of date: its issuer has a newer one',
      )
    return true
  }
}

async function readBounded(file: string): Promise<Buffer> {
  const { size } = await stat(file)
  if (size > LARGEST_FILE) throw new Error(`it has ${size} bytes, more than ${LARGEST_FILE}`)
  return readFile(file)
}
