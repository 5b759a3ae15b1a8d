// SPDX-License-Identifier: Apache-2.0
// The API of a cluster whose server is away or overloaded for a moment: what fails for that reason is asked again. An installation that has
// begun is not to end, or to be half taken back, because a server restarts under it.

import { Backoff, delay } from '../../mesh/async/backoff.ts'
import type { KubeApi, KubeFailure } from '../../mesh/kube/index.ts'
import type { Result } from '../../mesh/result.ts'

export interface PatienceOptions {
  /** How long a call is asked again; a minute if left out. */
  readonly forMs?: number
  readonly report: (line: string) => void
  /** Ends the waiting. */
  readonly signal?: AbortSignal | undefined
  /** Before the second attempt, from where it doubles; tests are in a hurry. */
  readonly firstMs?: number
}

/** A server that is restarted is back in less. */
const PATIENCE_MS = 60_000
const FIRST_MS = 500
const LONGEST_MS = 5_000
/** For an internal error: some pass, as that of an etcd which has a new leader, and others are the server's last word. */
const BROKEN_MS = 10_000

/** The same calls, each asked again while the server is away, fails or has too much to do. All of them may come twice without harm. */
export function patientApi(api: KubeApi, options: PatienceOptions): KubeApi {
  const { forMs = PATIENCE_MS, report, firstMs = FIRST_MS } = options
  const { signal = new AbortController().signal } = options
  // Once waiting was in vain, each further call has one attempt, until one succeeds.
  let isGivenUp = false
  const again = async <T>(
    call: () => Promise<Result<T, KubeFailure>>,
    isPassing = isMomentary,
  ): Promise<Result<T, KubeFailure>> => {
    const backoff = new Backoff({ firstMs, longestMs: LONGEST_MS })
    const startedAt = performance.now()
    let told = ''
    for (;;) {
      const result = await call()
      if (result.ok) isGivenUp = false
      if (result.ok || !isPassing(result.error) || isGivenUp || signal.aborted) return result
      const patienceMs = result.error.status === 500 ? Math.min(forMs, BROKEN_MS) : forMs
      if (performance.now() - startedAt >= patienceMs) {
        isGivenUp = true
        return result
      }
      if (told !== result.error.message) report(`${result.error.message}: trying again`)
      told = result.error.message
      await delay(
        Math.max(backoff.next(), Math.min(result.error.retryAfterMs ?? 0, LONGEST_MS)),
        signal,
      )
    }
  }
  // Its overloads differ in what comes back, not in how it is asked for.
  const list = ((...listing: Parameters<KubeApi['list']>) =>
    again(() => api.list(...listing))) as KubeApi['list']
  return {
    access: api.access,
    get: (resource, name, calling) => again(() => api.get(resource, name, calling)),
    list,
    create: (resource, object, calling) => again(() => api.create(resource, object, calling)),
    update: (resource, object, calling) => again(() => api.update(resource, object, calling)),
    // Somebody has changed the object between the server's reading and writing it: what is applied is still to be.
    patch: (resource, name, patch, calling) =>
      again(
        () => api.patch(resource, name, patch, calling),
        (failure) => isMomentary(failure) || failure.kind === 'conflict',
      ),
    delete: (resource, name, calling) => again(() => api.delete(resource, name, calling)),
    raw: (request) => again(() => api.raw(request)),
  }
}

/** Whether the same call may succeed a moment later. */
export const isMomentary = ({ kind }: KubeFailure): boolean =>
  kind === 'unavailable' || kind === 'timeout' || kind === 'throttled'
