// SPDX-License-Identifier: Apache-2.0
// A file of roots, as the kubelet swaps it behind a symbolic link, and as somebody may write it piece by piece.

import t from 'tap'
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { watchRoots } from '../../mesh/identity/watch-roots.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'
import { makeCa } from './pki.ts'

const log = createLogger('test', 'silent')
const LOOK_EVERY_MS = 20

void t.test('tells of other roots and of another order, and of nothing else', async (t) => {
  const [old, young] = [await makeCa('old'), await makeCa('young')]
  const dir = t.testdir({})
  let version = 0
  /** As the kubelet's atomic writer does. */
  const publish = (text: string): void => {
    version += 1
    mkdirSync(join(dir, `v${version}`))
    writeFileSync(join(dir, `v${version}`, 'root-cert.pem'), text)
    symlinkSync(`v${version}`, join(dir, 'data.new'))
    renameSync(join(dir, 'data.new'), join(dir, '..data'))
  }
  publish(old.pem)
  symlinkSync('..data/root-cert.pem', join(dir, 'root-cert.pem'))
  let changes = 0
  let told = Promise.withResolvers<void>()
  const close = watchRoots(
    join(dir, 'root-cert.pem'),
    log,
    () => {
      changes += 1
      told.resolve()
    },
    LOOK_EVERY_MS,
  )
  // The watch keeps no process alive.
  const alive = setInterval(() => undefined, 1_000)
  t.teardown(() => {
    clearInterval(alive)
    close()
  })
  const changed = async (text: string): Promise<void> => {
    told = Promise.withResolvers()
    publish(text)
    await told.promise
  }
  // The first look must be over, or what comes now is what was there; it tells nobody.
  await new Promise((resolve) => setTimeout(resolve, 3 * LOOK_EVERY_MS))
  await changed(old.pem + young.pem)
  await changed(young.pem + old.pem)
  t.equal(changes, 2)
  publish(`# a comment\n${young.pem}\n\n${old.pem}`)
  publish('')
  rmSync(join(dir, 'root-cert.pem'))
  // Time for a look that finds nothing to tell: no event says that nothing happened.
  await new Promise((resolve) => setTimeout(resolve, 3 * LOOK_EVERY_MS))
  symlinkSync('..data/root-cert.pem', join(dir, 'root-cert.pem'))
  await changed(young.pem)
  t.equal(changes, 3, 'the same roots, none at all, and no file are no change')
})
