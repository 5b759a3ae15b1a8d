// SPDX-License-Identifier: Apache-2.0
// Ctrl-C during `npm start`, which the terminal sends to every process of the group, while the lab comes up and while
// the checks run.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { cgroup2Mount, missing } from '../helpers.ts'

const DEMO = fileURLToPath(new URL('../../lab/demo/main.ts', import.meta.url))
const skip = missing('root', 'cgroup2')

const MOMENTS = [
  { when: 'pods are starting', line: 'pods: 0 of' },
  { when: 'the checks run', line: 'What the mesh does' },
]

for (const [index, { when, line }] of MOMENTS.entries()) {
  await t.test(`Ctrl-C while ${when}, twice, leaves nothing`, { skip }, async (t) => {
    const name = `i${process.pid}-${index}`
    const child = spawn(process.execPath, [DEMO, '--once', '--name', name], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    const pid = child.pid
    if (pid === undefined) throw new Error('Cannot start the demonstration')
    const interrupt = (): void => void process.kill(-pid, 'SIGINT')
    let said = ''
    const hear = (text: string): void => {
      const before = said
      said += text
      if (!before.includes(line) && said.includes(line)) interrupt()
      if (!before.includes('taking lab') && said.includes('taking lab')) interrupt()
    }
    child.stdout.setEncoding('utf8').on('data', hear)
    child.stderr.setEncoding('utf8').on('data', hear)
    const [code] = await once(child, 'close')
    t.equal(code, 130, said)
    t.match(said, /interrupted\n$/)
    t.notOk(existsSync(join('/run/ambit-lab', name)), 'no run directory')
    t.notOk(existsSync(join(cgroup2Mount() ?? '', `ambit-${name}`)), 'no cgroup')
    t.same(
      readdirSync('/run/netns').filter((netns) => netns.startsWith(`ambit-${name}-`)),
      [],
      'no network namespace',
    )
  })
}
