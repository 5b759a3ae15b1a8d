// SPDX-License-Identifier: Apache-2.0
// What an app's keepalive and TCP_USER_TIMEOUT mean for a connection that is carried over HBONE: how long its peer may be silent. Pure.

import { PING_INTERVAL_MS, PING_TIMEOUT_MS } from '../../mesh/hbone/limits.ts'
import type { AskedSilence } from '../../mesh/http2/peer-silence.ts'
import type { AskedOptions } from '../capture/types.ts'

/** What an app leaves open is as at the agent's own legs (native/src/socket.c). */
const KEEPALIVE_IDLE_S = 180
const KEEPALIVE_INTERVAL_S = 10
const KEEPALIVE_PROBES = 6
/** Who asks no more than the connection's own PING does need not be watched for. */
const FOUND_ANYHOW_MS = PING_INTERVAL_MS + PING_TIMEOUT_MS

/** The silence that ends the connection; undefined where the peer's end is found as soon without asking. */
export function askedSilence(asked: AskedOptions): AskedSilence | undefined {
  const { keepAlive, userTimeoutMs } = asked
  const probeMs = (asked.keepIdleS || KEEPALIVE_IDLE_S) * 1000
  const intervalMs = (asked.keepIntervalS || KEEPALIVE_INTERVAL_S) * 1000
  // tcp(7): the user time-out overrides keepalive's number of probes; one at least is sent (net/ipv4/tcp_timer.c).
  const kernelIdleMs =
    userTimeoutMs > 0
      ? Math.max(userTimeoutMs, probeMs + intervalMs)
      : probeMs + intervalMs * (asked.keepProbes || KEEPALIVE_PROBES)
  const idleMs = keepAlive && kernelIdleMs < FOUND_ANYHOW_MS ? kernelIdleMs : Infinity
  const unansweredMs =
    userTimeoutMs > 0 && userTimeoutMs < FOUND_ANYHOW_MS ? userTimeoutMs : Infinity
  if (idleMs === Infinity && unansweredMs === Infinity) return undefined
  return { probeMs: idleMs === Infinity ? Infinity : probeMs, idleMs, unansweredMs }
}
