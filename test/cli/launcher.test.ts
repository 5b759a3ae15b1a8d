// SPDX-License-Identifier: Apache-2.0
// With what the launcher starts Node for the programs that relay (cli/bin/ambit).

import { execFile } from 'node:child_process'
import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'

const LAUNCHER = join(import.meta.dirname, '../../cli/bin/ambit')

/** The options of Node with which a program runs. */
async function optionsOf(root: string, program: string): Promise<readonly string[]> {
  const { stdout } = await promisify(execFile)(join(root, 'cli/bin/ambit'), [program])
  return JSON.parse(stdout) as string[]
}

void t.test(
  'programs that relay have little room for the dead, and nothing is born old',
  async (t) => {
    const root = t.testdir({ 'package.json': '{ "type": "module" }' })
    mkdirSync(join(root, 'cli/bin'), { recursive: true })
    mkdirSync(join(root, 'node_modules/.bin'), { recursive: true })
    copyFileSync(LAUNCHER, join(root, 'cli/bin/ambit'))
    symlinkSync(process.execPath, join(root, 'node_modules/.bin/node'))
    writeFileSync(join(root, 'cli/main.ts'), 'console.log(JSON.stringify(process.execArgv))')
    for (const program of ['agent', 'waypoint-proxy']) {
      const options = await optionsOf(root, program)
      t.ok(options.includes('--no-allocation-site-pretenuring'), `${program}: ${options.join(' ')}`)
      t.ok(options.includes('--expose-gc'), `${program} collects in calm moments`)
    }
    t.notOk(
      (await optionsOf(root, 'status')).includes('--expose-gc'),
      'commands are as Node has them',
    )
  },
)
