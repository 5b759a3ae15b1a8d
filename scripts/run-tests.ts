// SPDX-License-Identifier: Apache-2.0
// Runs test files with tap, one process a file, and ends with the plain line "N passed, N failed, N skipped".
// Files under test/lab-*/ and test/lab/ bring whole labs up and load both cores, so they run one at a time after the rest.

import { spawn } from 'node:child_process'
import { glob } from 'node:fs/promises'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A file that is silent and not done after this long has hung. Seconds. */
const FILE_TIMEOUT_S = 240
/** Test files that share the machine's two cores without upsetting one another's deadlines. */
const PARALLEL_JOBS = 2

interface Counts {
  passed: number
  failed: number
  skipped: number
}

const isHeavy = (file: string): boolean => /^test\/(lab|e2e)[-/]/.test(file)

async function testFiles(): Promise<string[]> {
  const found: string[] = []
  for await (const file of glob('test/**/*.test.ts')) found.push(file)
  return found.sort()
}

/** Runs tap over files, streams its report to the terminal, and reads the counts from its TAP output. */
async function runTap(files: readonly string[], jobs: number, directory: string): Promise<Counts> {
  if (files.length === 0) return { passed: 0, failed: 0, skipped: 0 }
  const output = join(directory, `jobs-${jobs}.tap`)
  const args = [
    `--jobs=${jobs}`,
    `--timeout=${FILE_TIMEOUT_S}`,
    '--reporter=terse',
    `--output-file=${output}`,
    ...files,
  ]
  const code = await new Promise<number | null>((resolve, reject) => {
    const child = spawn('node_modules/.bin/tap', args, { stdio: ['ignore', 'inherit', 'inherit'] })
    child.on('error', reject)
    child.on('exit', resolve)
  })
  const counts = countTap(await readFile(output, 'utf8').catch(() => ''))
  // tap may fail for a reason that is no test point, e.g. a file that died or never ran a test.
  if (code !== 0 && counts.failed === 0) counts.failed = 1
  if (code === 0 && counts.passed === 0 && counts.skipped === 0) counts.failed = 1
  return counts
}

/** Counts leaf test points; a line that closes a subtest block repeats what its points said and is left out. */
export function countTap(tap: string): Counts {
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 }
  const lines = tap.split('\n')
  const deeper: boolean[] = []
  for (const line of lines) {
    const indent = line.search(/\S/)
    if (indent < 0) continue
    const depth = Math.floor(indent / 4)
    const match = /^\s*(not )?ok\b(.*)$/.exec(line)
    if (match === null) continue
    const closesBlock = deeper[depth + 1] === true
    deeper.length = depth + 1
    deeper[depth] = true
    if (closesBlock && match[1] === undefined) continue
    if (/# (SKIP|TODO)/i.test(match[2] ?? '')) counts.skipped += 1
    else if (match[1] === undefined) counts.passed += 1
    else if (!closesBlock) counts.failed += 1
  }
  return counts
}

const started = Date.now()
const asked = process.argv.slice(2)
const files = asked.length > 0 ? asked : await testFiles()
const directory = await mkdtemp(join(tmpdir(), 'ambit-tests-'))
try {
  const light = await runTap(
    files.filter((file) => !isHeavy(file)),
    PARALLEL_JOBS,
    directory,
  )
  const heavy = await runTap(files.filter(isHeavy), 1, directory)
  const total = {
    passed: light.passed + heavy.passed,
    failed: light.failed + heavy.failed,
    skipped: light.skipped + heavy.skipped,
  }
  console.log(`${files.length} files in ${Math.round((Date.now() - started) / 1000)} s`)
  console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`)
  process.exitCode = total.failed === 0 ? 0 : 1
} finally {
  await rm(directory, { recursive: true, force: true })
}
