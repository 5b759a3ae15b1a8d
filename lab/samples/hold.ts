// SPDX-License-Identifier: Apache-2.0
// Connections that live long: opened once, asked again and again until standard input ends, then one line of JSON says what became of
// them. The first line says that all have been answered. Usage: hold.ts URL [CONNECTIONS]

import type { Agent } from 'node:http'
import { http } from '../../mesh/node-http.ts'

const [url, connections = '4'] = process.argv.slice(2)
if (url === undefined) {
  console.error('usage: hold.ts URL [CONNECTIONS]')
  process.exit(2)
}
const PAUSE_MS = 50
/** For one answer: on a busy machine only a fault is ever that slow. */
const DEADLINE_MS = 20_000

/** What is printed at the end. */
export interface HoldReport {
  readonly answers: number
  /** Why connections ended that were to be kept, one reason each. */
  readonly ended: readonly string[]
}

let answers = 0
const ended: string[] = []
let isEnding = false

/** Asks by the one connection of the agent; rejects when it is not answered. */
async function ask(agent: Agent, isFirst: boolean): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const request = http.get(url ?? '', { agent, signal: AbortSignal.timeout(DEADLINE_MS) })
  request.on('error', reject)
  request.on('response', (response) => {
    response.on('error', reject)
    response.on('end', () => {
      if (!isFirst && !request.reusedSocket) reject(new Error('closed between two questions'))
      else if (response.statusCode === 200) resolve()
      else reject(new Error(`status ${response.statusCode}`))
    })
    response.resume()
  })
  await promise
  answers += 1
}

async function keepAsking(agent: Agent): Promise<void> {
  try {
    while (!isEnding) {
      await ask(agent, false)
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
    }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    ended.push(code ?? message)
  }
  agent.destroy()
}

process.stdin.resume()
process.stdin.on('end', () => (isEnding = true))
const agents = Array.from(
  { length: Number(connections) },
  () => new http.Agent({ keepAlive: true, maxSockets: 1 }),
)
await Promise.all(agents.map((agent) => ask(agent, true)))
console.log(`${connections} connections are open`)
await Promise.all(agents.map(keepAsking))
console.log(JSON.stringify({ answers, ended } satisfies HoldReport))
