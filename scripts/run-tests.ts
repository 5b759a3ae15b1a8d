// SPDX-License-Identifier: Apache-2.0
// Runs test files, each in a process of its own, with a line for each as it ends; the last line is always
// "N passed, N failed, N skipped". Arguments are files or folders; all of test/ when none is given.

import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { glob } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { readTap, type TapReport } from './tap-report.ts'

/** A file that is not done after this long has hung: the slowest takes a sixth of it on two busy cores. */
const FILE_DEADLINE_MS = 600_000
/** A story of a real cluster waits for images, kubelets and rollouts, one after another. */
const STORY_DEADLINE_MS = 1_200_000
/** What a file gets between SIGTERM and SIGKILL to say which test hung, and to clean up. */
const CLEANUP_MS = 10_000
/** Silence for longer than this looks like a hang to a person. */
const SILENCE_MS = 30_000
/** Lines shown of what a failed file wrote to stderr. */
const QUOTED_LINES = 40

/** These bring whole labs up, which wait as much as they work: beside each a file that brings none up, as long as there are such. */
const LABS = /^test\/(lab|e2e|cluster)\//
/** These hold the mesh to times of milliseconds, or have the one cluster for themselves: they run when all others are done, one at a time. */
const ALONE = /^test\/e2e\/(hostile-neighbour|load)\.test\.ts$|\.story\.ts$/

/**
 * Compiled code of what tests and labs run: each start of a file and of a lab's parts takes half the processor's time with it. The
 * command's own, which scripts/build.sh makes and drops.
 */
const COMPILE_CACHE = fileURLToPath(new URL('../node_modules/.cache/ambit', import.meta.url))

interface FileResult extends TapReport {
  readonly file: string
  readonly seconds: number
  readonly stderr: string
}

const running = new Map<ChildProcess, { readonly file: string; readonly startedAt: number }>()
let interrupted = false
let lastOutputAt = Date.now()

function say(line: string): void {
  lastOutputAt = Date.now()
  console.log(line)
}

/** To the file's process and all it started: each file leads a process group. */
function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error // it has ended by itself
  }
}

function runFile(file: string): Promise<FileResult> {
  const startedAt = Date.now()
  const deadlineMs = file.endsWith('.story.ts') ? STORY_DEADLINE_MS : FILE_DEADLINE_MS
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', file], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
      env: {
        ...process.env,
        NODE_COMPILE_CACHE: COMPILE_CACHE,
        // tap would end a file after 30 s in all, a clock that is about nothing: on a busy machine many take longer.
        TAP_TIMEOUT: String(deadlineMs / 1000),
      },
    })
    running.set(child, { file, startedAt })
    let tap = ''
    let stderr = ''
    let problem: string | undefined
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      tap += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    const deadline = setTimeout(() => {
      problem = `not done after ${deadlineMs / 1000} s`
      child.kill('SIGTERM')
      setTimeout(() => signalGroup(child, 'SIGKILL'), CLEANUP_MS).unref()
    }, deadlineMs)
    child.on('error', (error) => {
      problem = `cannot run: ${error.message}`
    })
    child.on('exit', (code, signal) => {
      if (code !== 0) problem ??= signal === null ? `exit code ${code}` : `ended by ${signal}`
      // Whoever it left behind holds its pipes open: without this, a stray process would hang the run.
      signalGroup(child, 'SIGKILL')
    })
    child.on('close', () => {
      clearTimeout(deadline)
      running.delete(child)
      const report = readTap(tap)
      const isEmpty = report.passed + report.failures.length + report.skips.length === 0
      if (report.failures.length === 0 && (problem !== undefined || isEmpty))
        report.failures.push({ name: problem ?? 'reported no test', diagnostics: [] })
      resolve({ ...report, file, stderr, seconds: (Date.now() - startedAt) / 1000 })
    })
  })
}

function show(result: FileResult, position: string): void {
  const { failures, skips, passed } = result
  const counts = [
    `${passed} passed`,
    failures.length > 0 ? `${failures.length} failed` : '',
    skips.length > 0 ? `${skips.length} skipped` : '',
  ].filter((part) => part !== '')
  const mark = failures.length > 0 ? 'FAIL' : 'ok  '
  say(`${mark} ${position} ${result.file} (${result.seconds.toFixed(1)} s): ${counts.join(', ')}`)
  for (const reason of new Set(skips)) say(`       skipped: ${reason}`)
  if (failures.length === 0) return
  for (const { name, diagnostics } of failures) {
    say(`       not ok: ${name}`)
    for (const line of diagnostics) say(`       ${line}`)
  }
  const stderr = result.stderr.trimEnd()
  if (stderr !== '') {
    say('       on stderr:')
    for (const line of stderr.split('\n').slice(-QUOTED_LINES)) say(`         ${line}`)
  }
}

/** All test files under what was asked for; exits with 2 when there are none. */
async function testFiles(asked: readonly string[]): Promise<readonly string[]> {
  const found = new Set<string>()
  for (const path of asked.length > 0 ? asked : ['test']) {
    const clean = path.replace(/^\.\//, '').replace(/\/$/, '')
    if (clean.endsWith('.ts') && existsSync(clean)) found.add(clean)
    else for await (const file of glob(`${clean}/**/*.test.ts`)) found.add(file)
  }
  if (found.size === 0) {
    console.error(`AMB_USAGE: no test file in ${asked.join(' ')}`)
    process.exit(2)
  }
  return [...found]
}

/** Runs all files, two side by side as far as they can be, and gives what each reported. */
async function runAll(files: readonly string[]): Promise<readonly FileResult[]> {
  const results: FileResult[] = []
  const runOf = async (queue: string[]): Promise<void> => {
    for (let file = queue.shift(); file !== undefined && !interrupted; file = queue.shift()) {
      const result = await runFile(file)
      results.push(result)
      show(result, `[${results.length}/${files.length}]`)
    }
  }
  const alone = files.filter((file) => ALONE.test(file))
  const labs = files.filter((file) => LABS.test(file) && !ALONE.test(file))
  const light = files.filter((file) => !LABS.test(file))
  await Promise.all([runOf(labs).then(() => runOf(light)), runOf(light).then(() => runOf(labs))])
  await runOf(alone)
  return results
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    interrupted = true
    for (const child of running.keys()) child.kill('SIGTERM')
    setTimeout(() => {
      for (const child of running.keys()) signalGroup(child, 'SIGKILL')
    }, CLEANUP_MS).unref()
  })
}
setInterval(() => {
  if (Date.now() - lastOutputAt < SILENCE_MS) return
  for (const { file, startedAt } of running.values())
    say(`...  ${file} is running since ${Math.round((Date.now() - startedAt) / 1000)} s`)
}, 1000).unref()

const startedAt = Date.now()
const files = await testFiles(process.argv.slice(2))
const results = await runAll(files)
const failed = results.flatMap(({ file, failures }) =>
  failures.map(({ name }) => `${file}: ${name}`),
)
const passed = results.reduce((sum, result) => sum + result.passed, 0)
const skipped = results.reduce((sum, result) => sum + result.skips.length, 0)
say('')
for (const line of failed) say(`failed: ${line}`)
if (interrupted) say(`interrupted: ${files.length - results.length} files were not run`)
say(`${results.length} files in ${Math.round((Date.now() - startedAt) / 1000)} s`)
say(`${passed} passed, ${failed.length} failed, ${skipped} skipped`)
process.exitCode = failed.length === 0 && !interrupted ? 0 : 1
