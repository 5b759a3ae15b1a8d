// SPDX-License-Identifier: Apache-2.0
// How long a connection waits for the certificate of its pod, and what it is told.

import t from 'tap'
import { CertificateCache } from '../../agent/proxy/certificate-cache.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import { stopTime } from '../support/stop-time.ts'

const WEB = 'spiffe://cluster.local/ns/shop/sa/web' as SpiffeId
const AWAY = { identity: WEB, message: 'nobody answers', isFinal: false }
const WAIT_MS = 50
const never = new AbortController().signal

void t.test(
  'while the CA is away each connection waits for its own time, and hears why',
  async (t) => {
    const tick = stopTime(t)
    let asked = 0
    const cache = new CertificateCache(() => (asked += 1), WAIT_MS)
    let isOver = false
    const waiting = cache.get(WEB, never).finally(() => (isOver = true))
    cache.fail(AWAY)
    await new Promise((resolve) => setImmediate(resolve))
    t.notOk(isOver, 'that others have waited long enough is nothing to it')
    t.equal(asked, 2, 'it is asked for on its behalf, too')
    tick(WAIT_MS)
    t.match(await waiting, {
      ok: false,
      error: {
        reason: 'identityError',
        message: `no certificate for ${WEB} within ${WAIT_MS} ms: nobody answers`,
      },
    })
    cache.fail(AWAY)
    t.equal(asked, 2, 'and no more once nobody waits')
  },
)

void t.test('a CA that says no is not waited for', async (t) => {
  const cache = new CertificateCache(() => undefined)
  const waiting = cache.get(WEB, never)
  cache.fail({ identity: WEB, message: 'no such pod', isFinal: true })
  t.match(await waiting, { ok: false, error: { message: 'no such pod' } })
})
