// SPDX-License-Identifier: Apache-2.0
// Gives memory back to the machine after a crowd has gone. V8 grows a thread's heap under load, and shrinks it only while it collects,
// which it does for want of room: a thread that has become calm would keep the largest heap it ever had. malloc keeps free pages as well,
// and the kernel has mapped what only the start needed of the program.
// So each thread collects once it is calm and its heap has grown. Until then it costs a look a second.

import { performance } from 'node:perf_hooks'
import { getHeapStatistics } from 'node:v8'
import { errorMessage } from '../../errors.ts'
import type { Logger } from '../../telemetry/log.ts'
import { CalmGrowth, type CalmGrowthOptions } from './calm-growth.ts'

const MIB = 1024 * 1024
const LOOK_EVERY_MS = 1_000
/** Below this part of a CPU a thread, or the process, is calm. */
const CALM_PART = 0.1
const GROWTH: CalmGrowthOptions = {
  slackBytes: 8 * MIB,
  slackPart: 1 / 2,
  crowd: 500,
  // A break between two bursts is shorter.
  calmMs: 3_000,
  pausePart: 1 / 200,
  restMs: 10_000,
  // What went while the thread rested is back before a minute is over.
  longestRestMs: 30_000,
}
/**
 * After a collection, one of young objects at each of so many looks: each takes half a millisecond, halves the nursery that they
 * have, and has V8 let go of the pages that it pools, which it does when none was needed for 8 s.
 */
const YOUNG_COLLECTIONS = 12
/** Growth of the process's resident memory at which it is trimmed. */
const PROCESS_SLACK_BYTES = 16 * MIB
/** Between two times that it is. */
const TRIM_REST_MS = 20_000

export interface GiveBackOptions {
  /** The collector that V8 lends under --expose-gc (cli/bin/ambit); without it heaps are left as they are. */
  readonly collector: NodeJS.GCFunction | undefined
  /** Has what is free returned to the machine, of all threads. */
  readonly trim: () => void
  /** Open descriptors of the thread's connections. */
  readonly descriptors: () => number
  readonly log: Logger
}

export interface MainThreadOptions {
  /** Has malloc return the pages it has free, of all threads. */
  readonly trimHeap: () => void
  /** The same, and what else the process can do without; may throw. */
  readonly trimProcess: () => void
  readonly log: Logger
}

/** Watches over the heap of a program's main thread and over its process, for as long as that lives. */
export function giveBackMemory({ trimHeap, trimProcess, log }: MainThreadOptions): void {
  const memory = log.child({ part: 'memory' })
  giveBackHeap({
    collector: globalThis.gc,
    trim: trimHeap,
    descriptors: () => 0,
    log: memory,
  })
  trimWhenCalm({ trim: trimProcess, log: memory })
}

/** Watches over the calling thread's heap for as long as the thread lives. */
export function giveBackHeap({ collector, trim, descriptors, log }: GiveBackOptions): void {
  if (collector === undefined) return
  const growth = new CalmGrowth(GROWTH)
  let youngLeft = 0
  let before = performance.eventLoopUtilization()
  const look = (): void => {
    const now = performance.now()
    const utilization = performance.eventLoopUtilization()
    const isBusy = performance.eventLoopUtilization(utilization, before).utilization > CALM_PART
    before = utilization
    const seen = { now, isBusy, bytes: heapBytes(), descriptors: descriptors() }
    if (growth.look(seen)) {
      collector({ type: 'major', execution: 'sync' })
      trim()
      const pauseMs = performance.now() - now
      const after = { ...seen, now: performance.now(), bytes: heapBytes() }
      growth.collected(after, pauseMs)
      log.debug({ beforeBytes: seen.bytes, afterBytes: after.bytes, pauseMs }, 'heap collected')
      youngLeft = YOUNG_COLLECTIONS
    } else if (youngLeft > 0 && !isBusy) {
      collector({ type: 'minor', execution: 'sync' })
      youngLeft -= 1
      if (youngLeft === 0) trim()
    }
  }
  setInterval(look, LOOK_EVERY_MS).unref()
}

/** Watches over the process, from its main thread: has it trimmed when there is little to do in any thread. `trim` may throw. */
function trimWhenCalm({ trim, log }: Pick<GiveBackOptions, 'trim' | 'log'>): void {
  const growth = new CalmGrowth({
    ...GROWTH,
    slackBytes: PROCESS_SLACK_BYTES,
    slackPart: 0,
    restMs: TRIM_REST_MS,
  })
  let before = { cpu: process.cpuUsage(), at: performance.now() }
  const look = (): void => {
    const now = performance.now()
    const { user, system } = process.cpuUsage(before.cpu)
    const isBusy = (user + system) / 1000 / (now - before.at) > CALM_PART
    before = { cpu: process.cpuUsage(), at: now }
    const seen = { now, isBusy, bytes: process.memoryUsage.rss(), descriptors: 0 }
    if (!growth.look(seen)) return
    try {
      trim()
    } catch (thrown) {
      log.warn({ error: errorMessage(thrown) }, 'the process could not be trimmed')
    }
    const pauseMs = performance.now() - now
    const after = { ...seen, now: performance.now(), bytes: process.memoryUsage.rss() }
    growth.collected(after, pauseMs)
    log.debug({ beforeBytes: seen.bytes, afterBytes: after.bytes, pauseMs }, 'process trimmed')
  }
  setInterval(look, LOOK_EVERY_MS).unref()
}

/** Of the calling thread: its pages, and what its objects hold outside of them. */
function heapBytes(): number {
  const { total_physical_size: pages, external_memory: outside } = getHeapStatistics()
  return pages + outside
}
