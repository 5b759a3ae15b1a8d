// SPDX-License-Identifier: Apache-2.0
// The engine's addon outlives the thread that has loaded it: OpenSSL calls it for every TLS connection of the process.

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import t from 'tap'
import { socketEngine } from '../support/engine.ts'

const skip = socketEngine() === undefined && 'native was not built: there is no addon'

void t.test('TLS works on when the thread that loaded the addon has ended', { skip }, async (t) => {
  const program = new URL('./unloading-process.ts', import.meta.url).pathname
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', program])
  t.equal(stdout.trim(), 'alive')
})
