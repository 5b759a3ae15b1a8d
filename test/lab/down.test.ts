// SPDX-License-Identifier: Apache-2.0
// What is said of processes that others have in a lab's namespaces when it is taken down.

import t, { type Test } from 'tap'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { takeDown } from '../../lab/cluster/index.ts'
import { command } from '../../lab/machine/command.ts'
import { labLayout } from '../../lab/machine/layout.ts'
import { missing } from '../helpers.ts'
import { uniqueLabName } from './fixture.ts'

const skip = missing('root')

/** A namespace as a lab that was half made leaves it, and in it a program of somebody else's. Gives the lab's name. */
async function halfMade(t: Test, program: string): Promise<string> {
  const name = uniqueLabName()
  const netns = `${labLayout(name).netnsPrefix}fabric`
  await command(['ip', 'netns', 'add', netns])
  t.teardown(async () => await takeDown(name))
  const child = spawn('ip', ['netns', 'exec', netns, 'sh', '-c', `echo in; exec ${program}`])
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  return name
}

void t.test('a process that ends by itself is no leftover', { skip }, async (t) => {
  t.strictSame((await takeDown(await halfMade(t, 'sleep 0.3'))).leftovers, [])
})

void t.test('one that stays is named, and what to do with it', { skip }, async (t) => {
  t.match((await takeDown(await halfMade(t, 'sleep 60'))).leftovers, [
    /^process \d+ \(sleep\) is still in the removed namespace ambit-.*-fabric: end it$/,
  ])
})
