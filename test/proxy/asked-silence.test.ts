// SPDX-License-Identifier: Apache-2.0
// What apps ask by keepalive and TCP_USER_TIMEOUT, as a silence: the kernel's own arithmetic (net/ipv4/tcp_timer.c).

import t from 'tap'
import type { AskedOptions } from '../../agent/capture/types.ts'
import { askedSilence } from '../../agent/proxy/asked-silence.ts'

const NOTHING: AskedOptions = {
  keepAlive: false,
  keepIdleS: 0,
  keepIntervalS: 0,
  keepProbes: 0,
  userTimeoutMs: 0,
  trafficClass: 0,
}
const KEEPALIVE = { keepAlive: true, keepIdleS: 2, keepIntervalS: 1, keepProbes: 3 }

void t.test('askedSilence() ends a connection when the kernel would', (t) => {
  for (const [asked, probeMs, idleMs, unansweredMs] of [
    [KEEPALIVE, 2_000, 5_000, Infinity],
    [{ userTimeoutMs: 3_000 }, Infinity, Infinity, 3_000],
    // The user time-out overrides the number of probes, once one is out.
    [{ ...KEEPALIVE, userTimeoutMs: 8_000 }, 2_000, 8_000, 8_000],
    [{ ...KEEPALIVE, userTimeoutMs: 500 }, 2_000, 3_000, 500],
    [{ ...KEEPALIVE, keepProbes: 60, userTimeoutMs: 20_000 }, 2_000, 20_000, 20_000],
    // gRPC's: keepalive of its own, a user time-out of 20 s.
    [{ userTimeoutMs: 20_000 }, Infinity, Infinity, 20_000],
  ] as const)
    t.same(askedSilence({ ...NOTHING, ...asked }), { probeMs, idleMs, unansweredMs })
  t.end()
})

void t.test('askedSilence() watches for nobody whose peer is found as soon without it', (t) => {
  for (const asked of [
    {},
    { trafficClass: 8 },
    { ...KEEPALIVE, keepAlive: false },
    { keepAlive: true },
    { keepAlive: true, keepIdleS: 15, keepIntervalS: 15, keepProbes: 9 }, // Go
    { ...KEEPALIVE, keepIdleS: 27 },
    { userTimeoutMs: 30_000 },
  ])
    t.equal(askedSilence({ ...NOTHING, ...asked }), undefined, JSON.stringify(asked))
  t.end()
})
