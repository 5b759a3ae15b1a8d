// SPDX-License-Identifier: Apache-2.0
// Steady traffic to an echo port until SIGTERM: HELD connections, opened first, that each say a word every few
// milliseconds, and new connections one after another. Says "steady" once all are under way. A line NAME on stdin is
// answered by "done NAME" once every held connection and every opener has had ROUNDS more rounds. Prints what failed
// at the end. Usage: steady.ts HOST PORT HELD ROUNDS

import { connect, type Socket } from 'node:net'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'

/** What is printed at the end. */
export interface Steady {
  readonly heldWords: number
  readonly heldFailures: readonly string[]
  readonly opened: number
  readonly openFailures: readonly string[]
}

const [host = '', port = '', held = '', rounds = ''] = process.argv.slice(2)
const PACE_MS = 10
/** New connections under way at any time. */
const OPENERS = 4
/** A word that is not echoed within this is lost. Milliseconds. */
const ECHO_DEADLINE_MS = 5000

let isStopping = false
process.on('SIGTERM', () => {
  isStopping = true
  commands.close()
})

/** Rounds that each held connection and each opener has had; one that has failed for good counts no more. */
const turns = new Map<string, number>()

function turn(who: string): void {
  turns.set(who, (turns.get(who) ?? 0) + 1)
}

const commands = createInterface({ input: process.stdin })
commands.on('line', (name) => {
  const goals = [...turns].map(([who, count]) => [who, count + Number(rounds)] as const)
  const look = setInterval(() => {
    if (!goals.every(([who, goal]) => (turns.get(who) ?? Infinity) >= goal)) return
    clearInterval(look)
    console.log(`done ${name}`)
  }, PACE_MS)
})

const told = { heldWords: 0, heldFailures: [] as string[], opened: 0, openFailures: [] as string[] }

async function open(): Promise<Socket> {
  const socket = connect({ host, port: Number(port), noDelay: true })
  // Whoever holds it for longer listens for itself.
  socket.on('error', () => undefined)
  await once(socket, 'connect', { signal: AbortSignal.timeout(ECHO_DEADLINE_MS) })
  return socket
}

/** Says a word and waits for its echo; rejects on anything else. */
async function say(socket: Socket, word: string): Promise<void> {
  const echoed = Promise.withResolvers<void>()
  let got = ''
  const onData = (chunk: Buffer): void => {
    got += String(chunk)
    if (got === word) echoed.resolve()
    else if (got.length >= word.length) echoed.reject(new Error(`said ${word}, heard ${got}`))
  }
  const onError = (error: Error): void => echoed.reject(error)
  const onClose = (): void => echoed.reject(new Error('closed before the echo'))
  const timer = setTimeout(() => echoed.reject(new Error('no echo')), ECHO_DEADLINE_MS)
  socket.on('data', onData).on('error', onError).on('close', onClose)
  try {
    socket.write(word)
    await echoed.promise
  } finally {
    clearTimeout(timer)
    socket.off('data', onData).off('close', onClose).off('error', onError)
  }
}

function codeOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  return `${new Date().toISOString()} ${code ?? message}`
}

async function hold(socket: Socket, index: number): Promise<void> {
  // What ends it between two words: at the next word only its silence would be left to tell.
  let ended: string | undefined
  socket.once('error', (error) => (ended ??= codeOf(error)))
  socket.once('close', () => (ended ??= codeOf(new Error('closed'))))
  try {
    for (let round = 0; !isStopping; round += 1) {
      if (socket.closed) throw new Error('closed between two words')
      await say(socket, `word ${index}.${round} `)
      told.heldWords += 1
      turn(`held ${index}`)
      await delay(PACE_MS)
    }
  } catch (error) {
    told.heldFailures.push(`held ${index}: ${ended ?? codeOf(error)}`)
    turns.delete(`held ${index}`)
  } finally {
    socket.on('error', () => undefined).destroy()
  }
}

async function openAgainAndAgain(index: number): Promise<void> {
  while (!isStopping) {
    try {
      const socket = await open()
      try {
        await say(socket, 'hello')
        told.opened += 1
      } finally {
        socket.on('error', () => undefined).destroy()
      }
    } catch (error) {
      told.openFailures.push(codeOf(error))
    }
    turn(`opener ${index}`)
    await delay(PACE_MS)
  }
}

const sockets = await Promise.all(Array.from({ length: Number(held) }, open))
await Promise.all(sockets.map((socket) => say(socket, 'first')))
for (const index of sockets.keys()) turns.set(`held ${index}`, 0)
for (let index = 0; index < OPENERS; index += 1) turns.set(`opener ${index}`, 0)
console.log('steady')
await Promise.all([
  ...sockets.map(hold),
  ...Array.from({ length: OPENERS }, (_, index) => openAgainAndAgain(index)),
])
console.log(JSON.stringify(told))
