// SPDX-License-Identifier: Apache-2.0
// Whom a program's discovery client tells how it does: the health that the admin API shows, the counters, and the log.

import type { Logger } from '../telemetry/log.ts'
import type { DiscoveryCounters } from '../telemetry/metrics/discovery-counters.ts'
import type { XdsClientOptions } from './client.ts'
import type { DiscoveryHealth } from './discovery-health.ts'

export interface DiscoveryObservers {
  readonly health: DiscoveryHealth
  readonly counters: DiscoveryCounters
  readonly log: Logger
  /** The control plane is there, for the first time or again. */
  readonly onConnected: () => void
}

/** The client's options that tell them. */
export function observedBy({
  health,
  counters,
  log,
  onConnected,
}: DiscoveryObservers): Pick<
  XdsClientOptions,
  'logger' | 'onConnectionState' | 'onEnd' | 'onResponse' | 'onProblems'
> {
  return {
    logger: log.child({ part: 'xds' }),
    onConnectionState: (state) => {
      health.noted(state)
      if (state.kind === 'connected') onConnected()
    },
    onEnd: (end) => counters.ended(end),
    onResponse: (typeUrl, bytes) => counters.told(typeUrl, bytes),
    onProblems: (typeUrl, problems) =>
      log.warn({ typeUrl, problems }, 'some discovery resources were refused'),
  }
}
