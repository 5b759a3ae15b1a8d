// SPDX-License-Identifier: Apache-2.0
// Runs go, for what only Go modules have: tells every few seconds how far it is, and sets it no limit of time.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { requireTool } from './requirements.ts'

const PROGRESS_MS = 5_000
const QUOTED_OUTPUT_BYTES = 2000
const ENDING = ['SIGINT', 'SIGTERM'] as const

export interface GoRun {
  /** For people. */
  readonly what: string
  readonly directory: string
  /** Over the process's own; flags of GOFLAGS are added to those that it has. */
  readonly environment?: NodeJS.ProcessEnv
  /** How many packages there may be to compile. */
  readonly total?: number | undefined
  readonly report: (line: string) => void
}

/**
 * Runs go to its end and gives its output. What it has loaded and compiled is kept in its own caches: after an interruption the next run
 * goes on from there. Rejects where go is missing or fails, with what it said.
 */
export async function runGo(words: readonly string[], run: GoRun): Promise<string> {
  requireTool('go', run.what)
  run.report(run.what)
  const goFlags = [process.env['GOFLAGS'], run.environment?.['GOFLAGS']].filter(Boolean).join(' ')
  const child = spawn('go', words, {
    cwd: run.directory,
    env: { ...process.env, ...run.environment, GOFLAGS: goFlags },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const startMs = performance.now()
  const seconds = (): string => ((performance.now() - startMs) / 1000).toFixed(0)
  let output = ''
  let said = ''
  const counted = { compiled: 0, loaded: 0 }
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  createInterface({ input: child.stderr }).on('line', (line) => {
    if (line.startsWith('go: downloading ')) counted.loaded += 1
    // By -v the path of a package, when its turn comes.
    else if (/^[a-z][\w.-]*(\/\S+)*$/.test(line)) counted.compiled += 1
    said = `${said}${line}\n`.slice(-QUOTED_OUTPUT_BYTES)
  })
  const timer = setInterval(() => {
    const atMost = run.total === undefined ? '' : ` of ${run.total} at most`
    const parts = [
      ...(counted.loaded > 0 ? [`${counted.loaded} modules loaded`] : []),
      ...(counted.compiled > 0 ? [`${counted.compiled} packages${atMost} compiled`] : []),
      `${seconds()} s`,
    ]
    run.report(`  ${parts.join(', ')}`)
  }, PROGRESS_MS)
  // Else the compiler would go on by itself.
  const stop = (): void => void child.kill('SIGINT')
  for (const signal of ENDING) process.once(signal, stop)
  try {
    const [code] = (await once(child, 'close')) as [number | null]
    if (code === 0) return output
    throw new Error(`Cannot go on ${run.what}: go says:\n${said.trim()}`)
  } finally {
    clearInterval(timer)
    for (const signal of ENDING) process.removeListener(signal, stop)
  }
}
