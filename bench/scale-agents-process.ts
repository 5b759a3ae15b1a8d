// SPDX-License-Identifier: Apache-2.0
// Some of the agents of bench/scale.ts, in a process of their own.

import type { FromAgents, ToAgents } from './scale/messages.ts'
import { addressOf, monotonicMs, tokenOf } from './scale/messages.ts'
import type { ScannedResponse } from './scale/response-scanner.ts'
import { SimulatedAgent } from './scale/simulated-agent.ts'
import { FOLLOWED, VersionsHeld } from './scale/versions-held.ts'

/** Ends are told this often. */
const ENDS_MS = 1_000

interface Progress {
  /** Types that have been answered on the present stream. */
  readonly answered: Set<string>
  bytes: number
  resources: number
}

const tell = (message: FromAgents): void => void process.send?.(message)

const served = new Map<number, number>()
const progress = new Map<number, Progress>()
let ends: Record<string, number> = {}
let expected: { readonly name: string; readonly arrived: Map<number, number> } | undefined

function onResponse(agent: number, { typeUrl, bytes, resources, names }: ScannedResponse): void {
  const now = monotonicMs()
  const own = progress.get(agent)
  if (own === undefined) return
  own.answered.add(typeUrl)
  own.bytes += bytes
  own.resources += resources
  if (own.answered.size === FOLLOWED.length && !served.has(agent)) {
    served.set(agent, now)
    if (served.size === progress.size) tellServed()
  }
  if (expected?.arrived.has(agent) !== false || !names.includes(expected.name)) return
  expected.arrived.set(agent, now)
  if (expected.arrived.size < progress.size) return
  tell({ kind: 'arrived', times: [...expected.arrived.values()] })
  expected = undefined
}

function tellServed(): void {
  const all = [...progress.values()]
  tell({
    kind: 'served',
    times: [...served.values()],
    bytes: all.reduce((sum, { bytes }) => sum + bytes, 0),
    resources: all.reduce((sum, { resources }) => sum + resources, 0),
  })
}

function renew(agent: number): void {
  progress.set(agent, { answered: new Set(), bytes: 0, resources: 0 })
}

function start({ from, to, port, roots, serverName }: ToAgents & { kind: 'start' }): void {
  // All of them hold the same: the first learns for all.
  const held = new VersionsHeld()
  for (let agent = from; agent < to; agent += 1) {
    renew(agent)
    const isKeeper = agent === from
    const simulated = new SimulatedAgent({
      port,
      roots,
      serverName,
      token: tokenOf(agent),
      localAddress: addressOf(agent),
      openings: () => held.openings(),
      onResponse: (response) => onResponse(agent, response),
      ...(isKeeper && { onBytes: (chunk: Buffer) => held.take(chunk) }),
      onEnd: (reason) => {
        ends[reason] = (ends[reason] ?? 0) + 1
        if (isKeeper) held.restart()
        renew(agent)
      },
    })
    simulated.start()
  }
}

process.on('message', (message: ToAgents) => {
  switch (message.kind) {
    case 'start':
      start(message)
      break
    case 'expect':
      expected = { name: message.name, arrived: new Map() }
      tell({ kind: 'expecting' })
      break
    case 'expectReturn':
      served.clear()
      for (const agent of progress.keys()) renew(agent)
      tell({ kind: 'expecting' })
      break
  }
})
process.on('disconnect', () => process.exit())
setInterval(() => {
  if (Object.keys(ends).length > 0) tell({ kind: 'ends', byReason: ends })
  ends = {}
}, ENDS_MS)
tell({ kind: 'ready' })
