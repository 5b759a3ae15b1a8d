// SPDX-License-Identifier: Apache-2.0
// A Unix socket for root alone, at a path that one agent of the node takes over from another without a gap.

import { randomBytes } from 'node:crypto'
import { chmod, lstat, mkdir, rename, rm } from 'node:fs/promises'
import type { Server } from 'node:net'
import path from 'node:path'

/** Of the name's random end; a socket's whole path has 107 bytes at most. */
const OWN_NAME_BYTES = 4

/** Takes the name away, unless another agent has it by now. */
export type GiveUpName = () => Promise<void>

/**
 * Listens. The directory of the socket is made and kept at 0700, the socket at 0600. Rejects with the system's error, and where a file
 * that is no socket stands at the path: it is somebody else's.
 */
export async function listenForRoot(server: Server, socketPath: string): Promise<GiveUpName> {
  const directory = path.dirname(socketPath)
  await mkdir(directory, { recursive: true, mode: 0o700 })
  await chmod(directory, 0o700)
  const found = await lstat(socketPath).catch(ignoreMissing)
  if (found !== undefined && !found.isSocket())
    throw new Error('there is a file of that name that is no socket')
  // Under a name of its own first, then moved: the socket is never there with other rights, an upgrade has no
  // gap, and the old agent's close, which unlinks the name it listened on, does not take ours away.
  // Not by the pid: in containers, the old agent's may be the same.
  const ownName = `${socketPath}.${randomBytes(OWN_NAME_BYTES).toString('hex')}`
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(ownName, () => {
      server.off('error', reject)
      resolve()
    })
  })
  await chmod(ownName, 0o600)
  const { ino } = await lstat(ownName)
  await rename(ownName, socketPath)
  return async () => {
    const current = await lstat(socketPath).catch(ignoreMissing)
    if (current?.ino === ino) await rm(socketPath, { force: true })
  }
}

function ignoreMissing(thrown: unknown): undefined {
  if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined
  throw thrown
}
