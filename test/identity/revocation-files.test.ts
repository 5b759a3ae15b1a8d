// SPDX-License-Identifier: Apache-2.0
// Given files of revoked certificates that an operator changes while the agent runs, then the last good word of each is in force.

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { RevocationFiles } from '../../mesh/identity/revocation-files.ts'
import { makeRoot } from '../hbone/certs.ts'
import { pemOfList, revocationList } from '../identity/revocation-lists.ts'
import { until } from '../support/until.ts'

const root = await makeRoot()

async function followed(t: Test, names: readonly string[]) {
  const directory = await mkdtemp(path.join(tmpdir(), 'ambit-crl-'))
  const told: string[][] = []
  const lines: { level: number; msg: string; reason?: string }[] = []
  const files = names.map((name) => path.join(directory, name))
  const follower = new RevocationFiles({
    files,
    log: pino({}, { write: (line: string) => lines.push(JSON.parse(line) as (typeof lines)[0]) }),
    onLists: (lists) => told.push(lists.flatMap(({ serials }) => serials)),
    lookEveryMs: 20,
  })
  t.teardown(async () => {
    await follower.close()
    await rm(directory, { recursive: true, force: true })
  })
  return { files, told, lines, follower }
}

void t.test(
  'all files count together, and a change of one is told without a restart',
  async (t) => {
    const { files, told, follower } = await followed(t, ['a.pem', 'b.der'])
    const [a = '', b = ''] = files
    await writeFile(a, pemOfList(await revocationList(root, ['11'])))
    await writeFile(b, await revocationList(root, ['22']))
    await follower.start()
    t.strictSame(told, [['11', '22']])
    await writeFile(a, pemOfList(await revocationList(root, ['11', '33'])))
    await until(() => told.length === 2, 'the change')
    t.strictSame(told[1], ['11', '33', '22'])
  },
)

void t.test('a file that cannot be used leaves in force what it said, loudly, once', async (t) => {
  const { files, told, lines, follower } = await followed(t, ['a.pem'])
  const [a = ''] = files
  await writeFile(a, pemOfList(await revocationList(root, ['11'])))
  await follower.start()
  await writeFile(a, 'not a list')
  await until(() => lines.some(({ level }) => level === 50), 'the complaint')
  t.match(
    lines.filter(({ level }) => level === 50),
    [{ msg: /what it said before stays in force/, reason: /neither PEM of X509 CRL nor DER/ }],
  )
  await rm(a)
  await until(() => lines.filter(({ level }) => level === 50).length === 2, 'the other complaint')
  t.strictSame(told, [['11']])
  await writeFile(a, pemOfList(await revocationList(root, ['44'])))
  await until(() => told.length === 2, 'the new list')
  t.strictSame(told[1], ['44'])
})

void t.test('a file that is not there yet is followed all the same', async (t) => {
  const { files, told, lines, follower } = await followed(t, ['late.pem'])
  await follower.start()
  t.match(lines, [{ level: 50, msg: /nothing is known to be revoked by it/, reason: /ENOENT/ }])
  await writeFile(files[0] ?? '', pemOfList(await revocationList(root, ['11'])))
  await until(() => told.length === 1, 'the list')
  t.strictSame(told, [['11']])
})

void t.test('a list that is out of date counts, and is warned of', async (t) => {
  const { files, told, lines, follower } = await followed(t, ['old.der'])
  const nextUpdate = new Date(Date.now() - 1_000)
  await writeFile(files[0] ?? '', await revocationList(root, ['11'], { nextUpdate }))
  await follower.start()
  t.strictSame(told, [['11']])
  t.match(lines.at(-1), { level: 40, msg: /out of date/ })
})
