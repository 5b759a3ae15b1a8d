// SPDX-License-Identifier: Apache-2.0
// Opens COUNT connections to an echo port and holds them all; only when all are open does each say a word of its own
// and wait for its echo. Prints what failed and how long the slowest failure took. Usage: crowd.ts HOST PORT COUNT

import { connect, type Socket } from 'node:net'
import { once } from 'node:events'

const [host = '', port = '', count = ''] = process.argv.slice(2)

/** An answer that takes longer is a failure. Milliseconds. */
const DEADLINE_MS = 20_000

interface Outcome {
  readonly end: string
  readonly ms: number
}

let opened = 0
const allOpen = Promise.withResolvers<void>()

function settled(): void {
  opened += 1
  if (opened === Number(count)) allOpen.resolve()
}

async function echo(socket: Socket, word: string): Promise<string> {
  socket.write(word)
  let got = ''
  while (got.length < word.length) {
    const [chunk] = (await once(socket, 'data')) as [Buffer]
    got += String(chunk)
  }
  return got === word ? 'ok' : `said ${word}, heard ${got}`
}

async function member(index: number): Promise<Outcome> {
  const startedAt = performance.now()
  const socket = connect({ host, port: Number(port) })
  socket.setTimeout(DEADLINE_MS, () => socket.destroy(new Error('timed out')))
  let end: string
  try {
    // A reset may come right after the handshake: listened for from the beginning.
    const closed = once(socket, 'close').then(() => 'closed')
    closed.catch(() => undefined)
    await once(socket, 'connect').finally(settled)
    await allOpen.promise
    end = await Promise.race([echo(socket, `word ${index} `), closed])
  } catch (error) {
    end = (error as NodeJS.ErrnoException).code ?? String(error)
  }
  const ms = performance.now() - startedAt
  socket.destroy()
  return { end, ms }
}

const outcomes = await Promise.all(Array.from({ length: Number(count) }, (_, i) => member(i)))
const failures = outcomes.filter(({ end }) => end !== 'ok')
console.log(
  JSON.stringify({
    ok: outcomes.length - failures.length,
    failures: Object.fromEntries(
      [...new Set(failures.map(({ end }) => end))].map((end) => [
        end,
        failures.filter((each) => each.end === end).length,
      ]),
    ),
    slowestMs: Math.max(...outcomes.map(({ ms }) => ms)),
  }),
)
