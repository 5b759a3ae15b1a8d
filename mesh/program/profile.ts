// SPDX-License-Identifier: Apache-2.0
// Profiles of the calling thread, in V8's own formats, which Chrome's DevTools and speedscope open. A heap profile says which
// functions allocated what is still alive; unlike a snapshot of the heap it holds no value of the process, so no key.

import { Session } from 'node:inspector/promises'
import { delay } from '../async/backoff.ts'

export type ProfileKind = 'cpu' | 'heap'

export interface ProfileRequest {
  readonly kind: ProfileKind
  readonly seconds: number
  /** Samples a second; of CPU profiles. */
  readonly frequency: number
}

/** Bytes allocated between two samples of a heap profile, on average: V8's own default. */
const HEAP_SAMPLING_INTERVAL_BYTES = 32_768

/** Watches this thread for so long, or until `signal` aborts; the text of a `.cpuprofile` or `.heapprofile`. */
export async function profileThread(
  { kind, seconds, frequency }: ProfileRequest,
  signal: AbortSignal,
): Promise<string> {
  const session = new Session()
  session.connect()
  try {
    if (kind === 'heap') {
      await session.post('HeapProfiler.startSampling', {
        samplingInterval: HEAP_SAMPLING_INTERVAL_BYTES,
      })
      await delay(seconds * 1_000, signal)
      const { profile } = await session.post('HeapProfiler.stopSampling')
      return JSON.stringify(profile)
    }
    await session.post('Profiler.enable')
    await session.post('Profiler.setSamplingInterval', {
      interval: Math.round(1_000_000 / frequency),
    })
    await session.post('Profiler.start')
    await delay(seconds * 1_000, signal)
    const { profile } = await session.post('Profiler.stop')
    return JSON.stringify(profile)
  } finally {
    session.disconnect()
  }
}
