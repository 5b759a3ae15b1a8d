// SPDX-License-Identifier: Apache-2.0
// What other layouts left on the BPF file system, as directories and files of any file system.

import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { Pins } from '../../agent/capture/pins.ts'
import { sweeperOfSuperseded } from '../../agent/capture/superseded.ts'

interface Bpffs {
  readonly root: string
  readonly sweep: () => void
  /** Paths that were told so far. */
  readonly told: readonly string[]
  leave(layout: string, pod: string): string
}

function bpffs(t: Test): Bpffs {
  const root = t.testdir({})
  const told: string[] = []
  const logger = pino(
    { base: null },
    { write: (line) => told.push((JSON.parse(line) as { path: string }).path) },
  )
  const present = new Pins(root)
  present.create()
  return {
    root,
    sweep: sweeperOfSuperseded(present, logger),
    told,
    leave(layout, pod) {
      const pins = new Pins(root, layout)
      pins.create()
      writeFileSync(`${pins.maps}/pods`, '')
      const path = `${pins.pods}/${pod}`
      writeFileSync(path, '')
      return path
    },
  }
}

void t.test('a layout goes with the last pod that is captured by it', async (t) => {
  const { root, sweep, told, leave } = bpffs(t)
  const pod = leave('v1', 'uid-a@1f')
  sweep()
  t.ok(existsSync(pod))
  rmSync(pod)
  sweep()
  t.notOk(existsSync(`${root}/v1`))
  t.strictSame(told, [])
})

void t.test(
  'what is left of a layout half removed goes, and a file called like one is none',
  async (t) => {
    const { root, sweep, leave } = bpffs(t)
    leave('v1', 'uid-a@1f')
    for (const gone of ['pods', 'links']) rmSync(`${root}/v1/${gone}`, { recursive: true })
    mkdirSync(`${root}/v2`)
    writeFileSync(`${root}/v3`, '')
    t.strictSame(new Pins(root).listAllPods(), [])
    const named = new Pins(root).superseded().map(({ pods }) => pods)
    t.strictSame(named.sort(), [`${root}/v1/pods`, `${root}/v2/pods`])
    sweep()
    t.notOk(existsSync(`${root}/v1`))
    t.notOk(existsSync(`${root}/v2`))
    t.ok(existsSync(`${root}/v3`), 'whose it is nobody knows')
  },
)

void t.test("what is no pod's keeps a layout, which is told once", async (t) => {
  const { root, sweep, told, leave } = bpffs(t)
  const pod = leave('v1', 'uid-a@1f')
  const stranger = leave('v1', 'no-cookie')
  sweep()
  t.strictSame(told, [], 'not while a pod keeps it')
  rmSync(pod)
  sweep()
  sweep()
  t.strictSame(told, [stranger])
  t.ok(existsSync(stranger), 'a later layout may have other names')
  const other = leave('v9', 'of-another-kind')
  mkdirSync(`${root}/v9/pods/second`)
  sweep()
  t.strictSame(told, [stranger, other], 'of each layout once')
  rmSync(stranger)
  sweep()
  t.notOk(existsSync(`${root}/v1`))
})
