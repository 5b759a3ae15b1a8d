// SPDX-License-Identifier: Apache-2.0
// Lines that are written together: none is lost, whatever way the thread ends, and all stand in their order.

import { spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'
import t from 'tap'

const LINES = 2_000
const log = new URL('../../mesh/telemetry/log.ts', import.meta.url).href

/** Runs a program with a batched logger, whatever way it ends, and gives back the numbers of the lines it wrote. */
async function linesOf(program: string): Promise<number[]> {
  const source = `
    import fs from 'node:fs'
    import { createBatchedLogger } from '${log}'
    const { log, flush } = createBatchedLogger('access', 'info')
    const write = (count) => { for (let line = 0; line < count; line += 1) log.info({ line }, 'done') }
    ${program}`
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const stdout = await text(child.stdout)
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => (JSON.parse(line) as { readonly line: number }).line)
}

const all = Array.from({ length: LINES }, (_, line) => line)

await t.test('a thread that ends writes what waits', async (t) => {
  t.same(await linesOf(`write(${LINES}); process.exit(0)`), all)
})

await t.test('what waits is written a moment later', async (t) => {
  // Timers come in their order, however late.
  const die = "process.kill(process.pid, 'SIGKILL')"
  t.same(await linesOf(`write(${LINES}); setTimeout(() => ${die}, 100)`), all)
})

await t.test('or at once, for whoever asks', async (t) => {
  t.same(await linesOf(`write(${LINES}); flush(); process.reallyExit(0)`), all)
})

await t.test('and does not wait for the disk, where the log is a file', async (t) => {
  const count = 'let syncs = 0; fs.fsyncSync = () => { syncs += 1 };'
  const program = `write(${LINES}); flush(); log.info({ line: syncs }, 'done'); flush()`
  t.same(await linesOf(`${count} ${program}`), [...all, 0])
})
