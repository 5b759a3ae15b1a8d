// SPDX-License-Identifier: Apache-2.0
// Calls each URL again and again, a new connection for each call, whatever becomes of those before (an open loop), until SIGTERM or for
// SECONDS; waits for every call that was begun. Prints "probing", and at the end how it went. Usage: prober.ts SECONDS URL...

import { get } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'

const [seconds = '', ...urls] = process.argv.slice(2)
/** Between two calls to one URL. Milliseconds. */
const PACE_MS = 10
/** An app that waits longer has given up. Milliseconds. */
const DEADLINE_MS = 10_000

export interface Probe {
  readonly calls: number
  readonly failures: Readonly<Record<string, number>>
  readonly p50: number
  readonly p99: number
}

const tookMs: number[] = []
const failures: Record<string, number> = {}

function call(url: string): Promise<void> {
  const startedAt = performance.now()
  const { promise, resolve } = Promise.withResolvers<void>()
  const failed = (what: string): void => {
    failures[what] = (failures[what] ?? 0) + 1
    resolve()
  }
  const request = get(url, { agent: false, timeout: DEADLINE_MS }, (response) => {
    response.resume()
    response.once('end', () => {
      tookMs.push(performance.now() - startedAt)
      resolve()
    })
  })
  request.once('timeout', () => request.destroy(new Error('timed out')))
  request.once('error', (error: NodeJS.ErrnoException) => failed(error.code ?? error.message))
  return promise
}

if (import.meta.main) {
  const calls: Promise<void>[] = []
  const end = performance.now() + Number(seconds) * 1_000
  console.log('probing')
  while (performance.now() < end) {
    for (const url of urls) calls.push(call(url))
    await delay(PACE_MS)
  }
  await Promise.all(calls)
  const sorted = tookMs.sort((one, other) => one - other)
  const at = (part: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Infinity
  const probe: Probe = { calls: calls.length, failures, p50: at(0.5), p99: at(0.99) }
  console.log(JSON.stringify(probe))
}
