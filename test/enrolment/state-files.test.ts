// SPDX-License-Identifier: Apache-2.0
// What stands in the directory of pods' states and is no file of an agent's keeps none from starting, and none from leaving its node.

import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pino } from 'pino'
import t from 'tap'
import { takeOwnership } from '../../agent/enrolment/ownership.ts'
import { PodStateFiles, removePodStates } from '../../agent/enrolment/state-files.ts'

void t.test(
  'directories, links and FIFOs are left alone, and what is of agents goes',
  async (t) => {
    const directory = await mkdtemp(path.join(tmpdir(), 'ambit-states-'))
    t.teardown(() => rm(directory, { recursive: true }))
    const logged: string[] = []
    const log = pino({}, { write: (line: string) => void logged.push(line) })
    const state = '{"bootId":"another","version":1}'
    const foreign = ['a.json', 'b.json', 'c.json', 'd.json.tmp', 'mine.json']
    await mkdir(path.join(directory, 'a.json'))
    execFileSync('mkfifo', [path.join(directory, 'b.json')])
    await writeFile(path.join(directory, '../ambit-elsewhere'), state)
    t.teardown(() => rm(path.join(directory, '../ambit-elsewhere')))
    await symlink('../ambit-elsewhere', path.join(directory, 'c.json'))
    await mkdir(path.join(directory, 'd.json.tmp'))
    await writeFile(path.join(directory, 'mine.json'), '{}')
    await writeFile(path.join(directory, 'old.json'), state)
    await writeFile(path.join(directory, 'cut.json'), state.slice(0, 9))
    const files = new PodStateFiles(directory, await takeOwnership(directory, log), log)
    t.strictSame(await files.load(), [])
    t.equal(logged.filter((line) => line.includes('it is left alone')).length, foreign.length)
    t.strictSame((await readdir(directory)).sort(), [...foreign, 'epoch'].sort())
    await writeFile(path.join(directory, 'later.json'), state)
    await removePodStates(directory)
    t.strictSame((await readdir(directory)).sort(), foreign)
  },
)
