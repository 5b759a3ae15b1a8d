// SPDX-License-Identifier: Apache-2.0
// Tells when a file of roots changes. The kubelet swaps the files of a ConfigMap behind a symbolic link, which no watch of the file
// itself sees, so it is looked at.

import { unwatchFile, watchFile } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { errorMessage } from '../errors.ts'
import type { Logger } from '../telemetry/log.ts'
import { splitCertificates } from './pem.ts'

/** One stat() each; the kubelet itself takes up to a minute and a half. */
const LOOK_EVERY_MS = 2_000

/**
 * Calls back when the file holds other certificates, or the same in another order, than it did. A file that is missing or
 * holds none is no change: whoever writes it is not done. Returns what ends it.
 */
export function watchRoots(
  file: string,
  log: Logger,
  onChange: () => void,
  lookEveryMs = LOOK_EVERY_MS,
): () => void {
  let known: string | undefined
  let hasLooked = false
  let isClosed = false
  let looking: Promise<void> = Promise.resolve()
  const look = async (): Promise<void> => {
    const text = await readFile(file, 'utf8').catch((thrown: unknown) => {
      log.debug({ file, error: errorMessage(thrown) }, 'cannot read the roots')
      return ''
    })
    const roots = splitCertificates(text).join('\n')
    // A file that came later is news: whoever needed it may have read it in between, with other content.
    const isFirst = !hasLooked
    hasLooked = true
    if (isClosed || roots === '' || roots === known) return
    known = roots
    if (!isFirst) onChange()
  }
  const lookAgain = (): void => {
    looking = looking.then(look)
  }
  lookAgain()
  watchFile(file, { interval: lookEveryMs, persistent: false }, lookAgain)
  return () => {
    isClosed = true
    unwatchFile(file, lookAgain)
  }
}
