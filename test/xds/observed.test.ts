// SPDX-License-Identifier: Apache-2.0
// Whoever waits for the control plane hears when it is there.

import { pino } from 'pino'
import { Registry } from 'prom-client'
import t from 'tap'
import { DiscoveryCounters } from '../../mesh/telemetry/metrics/discovery-counters.ts'
import { DiscoveryHealth } from '../../mesh/xds/discovery-health.ts'
import { observedBy } from '../../mesh/xds/observed.ts'

void t.test('each connection to the control plane is told, and nothing else', async (t) => {
  let connections = 0
  const { onConnectionState } = observedBy({
    health: new DiscoveryHealth('controller:15012'),
    counters: new DiscoveryCounters(new Registry()),
    log: pino({ level: 'silent' }),
    onConnected: () => (connections += 1),
  })
  onConnectionState?.({ kind: 'connecting' })
  onConnectionState?.({ kind: 'disconnected', reason: 'away', retryInMs: 10 })
  t.equal(connections, 0)
  onConnectionState?.({ kind: 'connected' })
  onConnectionState?.({ kind: 'disconnected', reason: 'restarts', retryInMs: 10 })
  onConnectionState?.({ kind: 'connected' })
  t.equal(connections, 2)
})
