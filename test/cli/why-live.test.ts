// SPDX-License-Identifier: Apache-2.0
// `ambit why --live`: what it says of a call that was really made, beside what was foretold of it.

import t from 'tap'
import type { ProbedCall, SeenCall } from '../../agent/proxy/call-probe.ts'
import { compareLive, liveText, readProbedCall } from '../../cli/why/live.ts'
import type { Explanation, StepName } from '../../cli/why/steps.ts'

type Foretold = Parameters<typeof compareLive>[0]

const connects = (...securities: Explanation['securities']): Foretold => ({
  outcome: 'connects',
  securities,
  steps: [],
})
const failsAt = (step: StepName): Foretold => ({
  outcome: 'fails',
  securities: [],
  steps: [
    { step: 'capture', result: 'ok', what: '' },
    { step, result: 'stop', what: '' },
  ],
})
const BY_HBONE = connects('mutual_tls')
const UNKNOWN: Foretold = { outcome: 'unknown', securities: ['mutual_tls'], steps: [] }
const VARIES: Foretold = { outcome: 'varies', securities: ['mutual_tls'], steps: [] }

const SEEN: SeenCall = {
  dialled: '10.244.2.3:15008',
  hboneTarget: '10.244.2.3:8080',
  security: 'mutual_tls',
  workload: 'shop/catalog',
  peerIdentity: 'spiffe://cluster.local/ns/shop/sa/catalog',
}
const connected = (seen: SeenCall | undefined): ProbedCall => ({
  outcome: 'connected',
  tookMs: 4,
  ...(seen && { seen }),
})
const refused = (reason: SeenCall['reason'], message = ''): ProbedCall => ({
  outcome: 'refused',
  tookMs: 4,
  seen: { ...SEEN, ...(reason && { reason }), message },
})
const refusedAt = (dialled: string): ProbedCall => ({
  outcome: 'refused',
  tookMs: 4,
  seen: { ...SEEN, dialled, reason: 'connectFailed', message: 'connect ECONNREFUSED' },
})
const byKernel = (error: string): ProbedCall => ({ outcome: 'refused', tookMs: 0, error })
const silent = (dialled?: string): ProbedCall => ({
  outcome: 'timedOut',
  tookMs: 5_000,
  ...(dialled !== undefined && { seen: { dialled, security: 'unknown' } }),
})
const NODE_LOCAL: SeenCall = { ...SEEN, security: 'node_local' }

void t.test('what was foretold and happened agrees', (t) => {
  for (const [foretold, probed] of [
    [BY_HBONE, connected(SEEN)],
    [connects('mutual_tls', 'node_local'), connected(NODE_LOCAL)],
    [connects('plaintext'), connected({ security: 'unknown', dialled: '192.0.2.1:443' })],
    // Its own address, which the agent never sees.
    [connects('plaintext'), connected(undefined)],
    [failsAt('admission'), refused('hboneRefused', 'http status: 401')],
    [failsAt('admission'), refused('policyDenied')],
    [failsAt('egress'), refused('policyDenied')],
    [failsAt('endpoint'), refused('noHealthyUpstream')],
    [failsAt('certificate'), refused('identityError')],
    [failsAt('certificate'), silent('10.244.2.3:15008')],
    [failsAt('capture'), byKernel('EPERM')],
    [VARIES, connected(SEEN)],
    [VARIES, refused('hboneRefused', 'http status: 401')],
  ] as const)
    t.match(
      compareLive(foretold, probed),
      { agreement: 'agrees', likely: undefined },
      `${foretold.outcome}, ${JSON.stringify(probed)}`,
    )
  t.end()
})

void t.test('where they differ, the likely cause is named', (t) => {
  for (const [foretold, probed, likely] of [
    [BY_HBONE, silent('10.244.2.3:15008'), /drops port 15008/],
    [BY_HBONE, silent('[fd00::3]:15008'), /drops port 15008/],
    [BY_HBONE, refused('connectTimeout'), /drops port 15008/],
    [failsAt('admission'), refused('connectTimeout'), /drops port 15008/],
    [failsAt('admission'), silent('10.244.2.3:15008'), /drops port 15008/],
    [VARIES, silent('10.244.2.3:15008'), /drops port 15008/],
    [UNKNOWN, refused('connectTimeout'), /drops port 15008/],
    [connects('plaintext'), silent('192.0.2.1:443'), /nothing comes back from 192\.0\.2\.1:443/],
    [BY_HBONE, silent(), /ask again/],
    [BY_HBONE, refused('hboneRefused', 'http status: 401'), /ambit audit/],
    [BY_HBONE, refused('policyDenied'), /ambit audit/],
    [BY_HBONE, refused('hboneRefused', 'http status: 503'), /nobody listens/],
    [connects('plaintext'), refusedAt('192.0.2.1:443'), /nobody listens/],
    [connects('node_local'), refusedAt('10.244.1.3:8080'), /nobody listens/],
    [BY_HBONE, refusedAt('10.244.2.3:15008'), /rejects port 15008/],
    [failsAt('admission'), refusedAt('[fd00::3]:15008'), /rejects port 15008/],
    [VARIES, refusedAt('10.244.2.3:15008'), /rejects port 15008/],
    [BY_HBONE, refused('tlsFailure'), /ambit certs/],
    [BY_HBONE, refused('tooManyConnections'), /ask again/],
    [BY_HBONE, byKernel('EPERM'), /does not listen/],
    [BY_HBONE, byKernel('ENETUNREACH'), /no route/],
    [BY_HBONE, byKernel('EINVAL'), /ask again/],
    [BY_HBONE, connected(undefined), /did not pass the agent/],
    [BY_HBONE, connected({ ...SEEN, security: 'unknown' }), /ask again/],
    [failsAt('admission'), connected(SEEN), /by other policies/],
    [failsAt('admission'), connected(undefined), /did not pass the agent/],
    [failsAt('endpoint'), connected(SEEN), /ask again/],
  ] as const) {
    const compared = compareLive(foretold, probed)
    t.match(
      compared,
      { agreement: 'differs', likely },
      `${foretold.outcome}, ${JSON.stringify(probed)}`,
    )
  }
  t.end()
})

void t.test('what nobody could foretell is told as it was', (t) => {
  for (const probed of [connected(SEEN), refused('hboneRefused', 'http status: 401')])
    t.match(compareLive(UNKNOWN, probed), { agreement: 'open', likely: undefined })
  t.end()
})

void t.test('people read what happened, with whom, and who decided', (t) => {
  const text = (foretold: Foretold, probed: ProbedCall): string =>
    liveText(compareLive(foretold, probed), '10.96.0.20:80', probed.tookMs).join('\n')
  t.match(
    text(BY_HBONE, connected(SEEN)),
    /10\.96\.0\.20:80, in 4 ms: It connects to shop\/catalog at 10\.244\.2\.3:15008, with mutual TLS; proven is spiffe:.*\nReality is as foretold/,
  )
  t.match(text(BY_HBONE, connected(undefined)), /not through the agent/)
  t.match(text(BY_HBONE, byKernel('EPERM')), /It is refused: EPERM/)
  t.match(text(UNKNOWN, connected(NODE_LOCAL)), /inside the node, no TLS\.\nNobody could foretell/)
  const denied = refused('policyDenied', 'explicitly denied')
  const decidedBy = { policy: 'shop/x', rule: 0, madeOf: 'AuthorizationPolicy shop/x' }
  t.match(
    text(failsAt('admission'), { ...denied, seen: { ...SEEN, ...denied.seen, decidedBy } }),
    /policy rejection: explicitly denied, by AuthorizationPolicy shop\/x\./,
  )
  t.match(
    text(BY_HBONE, silent('10.244.2.3:15008')),
    /No answer within 5 s from 10\.244\.2\.3:15008\.\nReality differs\. Likely: a NetworkPolicy/,
  )
  t.end()
})

void t.test('an answer of another kind is no reality', (t) => {
  for (const answer of [undefined, null, 'connected', {}, { outcome: 'maybe' }])
    t.match(readProbedCall(answer), { ok: false })
  t.match(readProbedCall(connected(SEEN)), { ok: true })
  t.end()
})
