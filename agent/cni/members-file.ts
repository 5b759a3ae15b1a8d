// SPDX-License-Identifier: Apache-2.0
// What ambit-cni goes by while no agent answers: a file of the namespaces that have, or may have, pods in the mesh. It
// lies beside the CNI configuration, so that it is there as long as the plugin is called, a restart of the machine
// included. The mirror of native/cni/members.c, which believes it only as a whole, and only from root.

import { type FileHandle, open, readFile, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { parseJson } from '../../mesh/json.ts'
import { temporaryName } from './replace-file.ts'

const FILE_VERSION = 1

/** In the directory of the CNI configuration, unless --cni-members says otherwise. No ending that a runtime would read. */
export const MEMBERS_FILE = 'ambit-members'

/** The namespaces that an earlier agent wrote down; undefined when there is no file, or none that can be used. */
export async function readMembers(file: string): Promise<readonly string[] | undefined> {
  const text = await readFile(file, 'utf8').catch(() => undefined)
  const parsed = text === undefined ? undefined : parseJson(text)
  if (parsed?.ok !== true) return undefined
  const { value } = parsed
  if (typeof value !== 'object' || value === null || !('namespaces' in value)) return undefined
  const { namespaces } = value
  if (!('version' in value) || value.version !== FILE_VERSION || !Array.isArray(namespaces))
    return undefined
  return namespaces.filter((name) => typeof name === 'string')
}

/** Replaces the file in one step; it is on the disk when this resolves. `epoch` tells which agent wrote it. */
export async function writeMembers(
  file: string,
  namespaces: readonly string[],
  epoch: number,
): Promise<void> {
  const text = JSON.stringify({
    version: FILE_VERSION,
    epoch,
    writtenAt: new Date().toISOString(),
    namespaces,
  })
  const temporary = temporaryName(file)
  try {
    // 'wx': whoever may make files there must not be able to lead us elsewhere by a link.
    await withFile(temporary, 'wx', async (handle) => {
      await handle.writeFile(`${text}\n`)
      await handle.sync()
    })
    await rename(temporary, file)
  } catch (thrown) {
    await rm(temporary, { force: true })
    throw thrown
  }
  await withFile(path.dirname(file), 'r', (directory) => directory.sync())
}

async function withFile(
  name: string,
  flags: string,
  use: (handle: FileHandle) => Promise<void>,
): Promise<void> {
  const handle = await open(name, flags, 0o600)
  try {
    await use(handle)
  } finally {
    await handle.close()
  }
}
