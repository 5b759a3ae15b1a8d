// SPDX-License-Identifier: Apache-2.0
// The file that the agent leaves for its CNI plugin: whole at every moment, never less than what is known, put back when it
// is lost, and another agent's once that is in charge.

import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { MembersKeeper } from '../../agent/cni/index.ts'
import { readMembers, writeMembers } from '../../agent/cni/members-file.ts'
import { until } from '../support/until.ts'

interface Setting {
  readonly file: string
  readonly directory: string
  known: { namespaces: readonly string[]; isComplete: boolean } | undefined
  isInCharge: boolean
  readonly logged: string[]
  keep(): Promise<MembersKeeper>
  untilNamed(...namespaces: readonly string[]): Promise<void>
}

async function setUp(t: Test): Promise<Setting> {
  const directory = await mkdtemp(path.join(tmpdir(), 'ambit-members-'))
  const file = path.join(directory, 'ambit-members')
  const logged: string[] = []
  const setting: Setting = {
    file,
    directory,
    known: undefined,
    isInCharge: true,
    logged,
    async keep() {
      const keeper = await MembersKeeper.start({
        file,
        epoch: 3,
        mayWrite: () => Promise.resolve(setting.isInCharge),
        known: () => setting.known,
        logger: pino({}, { write: (line: string) => void logged.push(line) }),
      })
      t.teardown(() => keeper.close())
      return keeper
    },
    untilNamed: (...namespaces) =>
      until(
        async () => (await readMembers(file))?.join() === namespaces.join(),
        `a file that names ${namespaces.join(', ')}`,
      ),
  }
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  return setting
}

void t.test('nothing is written before anything is known, and nothing promised', async (t) => {
  const setting = await setUp(t)
  const keeper = await setting.keep()
  keeper.changed()
  t.equal(keeper.hasTried, false)
  setting.known = { namespaces: ['shop'], isComplete: false }
  keeper.changed()
  await keeper.tried
  await setting.untilNamed('shop')
  t.match(JSON.parse(await readFile(setting.file, 'utf8')), { version: 1, epoch: 3 })
  t.equal((await stat(setting.file)).mode & 0o777, 0o600)
  t.same(await readdir(setting.directory), ['ambit-members'])
})

void t.test('what an earlier agent knew stays until this one knows all', async (t) => {
  const setting = await setUp(t)
  await writeMembers(setting.file, ['gone', 'pods'], 2)
  setting.known = { namespaces: ['shop'], isComplete: false }
  const keeper = await setting.keep()
  t.equal(keeper.hasTried, true, 'there is one to go by')
  await setting.untilNamed('gone', 'pods', 'shop')
  setting.known = { namespaces: ['pods', 'shop'], isComplete: true }
  keeper.changed()
  await setting.untilNamed('pods', 'shop')
})

void t.test('a broken file is replaced, and one that another agent keeps is not', async (t) => {
  const setting = await setUp(t)
  await writeFile(setting.file, '{"version":1,"namespaces":')
  setting.known = { namespaces: ['shop'], isComplete: true }
  const keeper = await setting.keep()
  await setting.untilNamed('shop')
  setting.isInCharge = false
  setting.known = { namespaces: [], isComplete: true }
  keeper.changed(0)
  await new Promise((resolve) => setTimeout(resolve, 10))
  await keeper.close()
  t.same(await readMembers(setting.file), ['shop'])
})

void t.test(
  'a disk that takes nothing is told of once, and keeps nobody from going on',
  async (t) => {
    const setting = await setUp(t)
    setting.known = { namespaces: ['shop'], isComplete: true }
    await rm(setting.directory, { recursive: true })
    const keeper = await setting.keep()
    await keeper.tried
    keeper.changed(0)
    await until(() => setting.logged.length > 0, 'the complaint')
    await keeper.close()
    t.equal(setting.logged.length, 1)
    t.match(setting.logged[0], /cannot write down which namespaces/)
  },
)

void t.test('an uninstall takes the file away', async (t) => {
  const setting = await setUp(t)
  setting.known = { namespaces: ['shop'], isComplete: true }
  const keeper = await setting.keep()
  await setting.untilNamed('shop')
  await keeper.remove()
  t.same(await readdir(setting.directory), [])
})
