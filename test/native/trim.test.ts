// SPDX-License-Identifier: Apache-2.0
// What the start alone needed of the program's file is given back, and what is needed again is there again.

import t from 'tap'
import { readFileSync } from 'node:fs'
import { gunzipSync, gzipSync } from 'node:zlib'
import { trimProcess } from '../../native/libc.ts'

/** What is mapped of the program's file and is no page of the process's own, in KiB. */
function mappedOfProgram(): number {
  let isOfProgram = false
  let total = 0
  for (const line of readFileSync('/proc/self/smaps', 'utf8').split('\n')) {
    const mapping = /^[0-9a-f]+-[0-9a-f]+ (\S+) \S+ \S+ \S+ +(\S+)?/.exec(line)
    if (mapping !== null)
      isOfProgram = mapping[2] === process.execPath && mapping[1]?.includes('w') === false
    const resident = /^Rss: +(\d+) kB/.exec(line)?.[1]
    if (isOfProgram && resident !== undefined) total += Number(resident)
  }
  return total
}

void t.test('a process that is trimmed has less of its program mapped, and goes on', (t) => {
  const before = mappedOfProgram()
  trimProcess()
  const after = mappedOfProgram()
  t.comment(`${before} KiB before, ${after} KiB after`)
  t.ok(after < before / 2)
  const text = 'what is needed comes back '.repeat(1000)
  t.equal(gunzipSync(gzipSync(text)).toString(), text)
  t.doesNotThrow(trimProcess, 'again')
  t.end()
})
