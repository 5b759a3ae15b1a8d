// SPDX-License-Identifier: Apache-2.0
// Relays for tests and benchmarks, which wait for the end of one.

import type { CutSignal } from '../../mesh/async/cut.ts'
import type { ByteStream } from '../../mesh/relay/pump.ts'
import { relay as relayTo } from '../../mesh/relay/relay.ts'
import type { RelayResult } from '../../mesh/relay/relay-result.ts'

/** Joins two byte streams; resolves at their end. */
export function relay(
  downstream: ByteStream,
  upstream: ByteStream,
  signal?: CutSignal,
): Promise<RelayResult> {
  return new Promise((ended) => {
    relayTo(downstream, upstream, { metered: () => undefined, ended }, signal)
  })
}
